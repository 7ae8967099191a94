// SPDX-License-Identifier: BSD-3-Clause
//! Random numbers for choices among elements: fast and uniform, not for secrets. Each thread has a sequence of its own.
//!
//! Not here: seeds of hashes. Called by the collections and by commands such as SRANDMEMBER.

use std::cell::Cell;
use std::hash::BuildHasher;

/// A uniform number.
#[inline]
pub fn random() -> u64 {
    thread_local!(static STATE: Cell<u64> = Cell::new(foldhash::quality::RandomState::default().hash_one(0)));
    STATE.with(|state| {
        // splitmix64: every state is good, also zero.
        let next = state.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        state.set(next);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    })
}

/// A number below `limit`, each as likely as any other; zero when `limit` is.
#[inline]
pub fn random_below(limit: usize) -> usize {
    ((u128::from(random()) * limit as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::random_below;

    #[test]
    fn numbers_are_spread() {
        let mut counts = [0; 10];
        (0..10_000).for_each(|_| counts[random_below(10)] += 1);
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        assert_eq!((random_below(0), random_below(1)), (0, 0));
    }
}
