// SPDX-License-Identifier: BSD-3-Clause
//! Sorting as far as the first elements of a result need it, with the order among equals that the reference server gives:
//! Bentley and McIlroy's quicksort ("Engineering a Sort Function", 1993), leaving out parts that nobody asked for.

use std::cmp::Ordering;

/// Brings the `wanted` first elements to the front, in order. What follows is in no order.
pub(crate) fn sort_front<T>(elements: &mut [T], wanted: usize, compare: &impl Fn(&T, &T) -> Ordering) {
    let mut rest = elements;
    let mut wanted = wanted;
    while rest.len() >= 7 {
        let (low, high) = partition(rest, compare);
        if low > 1 {
            sort_front(&mut rest[..low], wanted, compare);
        }
        if rest.len() - high <= 1 || high >= wanted {
            return;
        }
        rest = &mut rest[high..];
        wanted -= high;
    }
    for end in 1..rest.len() {
        let mut at = end;
        while at > 0 && compare(&rest[at - 1], &rest[at]) == Ordering::Greater {
            rest.swap(at - 1, at);
            at -= 1;
        }
    }
}

/// Puts lesser elements before a pivot and its equals, greater ones behind. Where the lesser end and the greater begin.
fn partition<T>(elements: &mut [T], compare: &impl Fn(&T, &T) -> Ordering) -> (usize, usize) {
    let len = elements.len();
    let pivot = pivot(elements, compare);
    elements.swap(0, pivot);
    // Equals gather at both ends first: before `equal_low` and from `equal_high` on.
    let (mut equal_low, mut low, mut high, mut equal_high) = (1, 1, len, len);
    loop {
        while low < high {
            let order = compare(&elements[low], &elements[0]);
            if order == Ordering::Greater {
                break;
            }
            if order == Ordering::Equal {
                elements.swap(equal_low, low);
                equal_low += 1;
            }
            low += 1;
        }
        while low < high {
            let order = compare(&elements[high - 1], &elements[0]);
            if order == Ordering::Less {
                break;
            }
            if order == Ordering::Equal {
                equal_high -= 1;
                elements.swap(high - 1, equal_high);
            }
            high -= 1;
        }
        if low >= high {
            break;
        }
        elements.swap(low, high - 1);
        low += 1;
        high -= 1;
    }
    let moved = equal_low.min(low - equal_low);
    (0..moved).for_each(|at| elements.swap(at, low - moved + at));
    let moved = (equal_high - high).min(len - equal_high);
    (0..moved).for_each(|at| elements.swap(low + at, len - moved + at));
    (low - equal_low, len - (equal_high - high))
}

fn pivot<T>(elements: &[T], compare: &impl Fn(&T, &T) -> Ordering) -> usize {
    let is = |one: usize, order: Ordering, other: usize| compare(&elements[one], &elements[other]) == order;
    let median = |a: usize, b: usize, c: usize| {
        if is(a, Ordering::Less, b) {
            if is(b, Ordering::Less, c) {
                b
            } else if is(a, Ordering::Less, c) {
                c
            } else {
                a
            }
        } else if is(b, Ordering::Greater, c) {
            b
        } else if is(a, Ordering::Less, c) {
            a
        } else {
            c
        }
    };
    let len = elements.len();
    let (first, middle, last) = (0, len / 2, len - 1);
    match len {
        ..=7 => middle,
        8..=40 => median(first, middle, last),
        _ => {
            let step = len / 8;
            median(
                median(first, step, 2 * step),
                median(middle - step, middle, middle + step),
                median(last - 2 * step, last - step, last),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sort_front;

    #[test]
    fn the_front_is_sorted() {
        let mut state = 1u64;
        let mut random = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        for _ in 0..2000 {
            let len = random(120);
            let limit = 1 + random(60);
            let mut elements: Vec<u64> = (0..len).map(|_| random(limit)).collect();
            let mut expected = elements.clone();
            expected.sort_unstable();
            let wanted = random(len + 1) as usize;
            sort_front(&mut elements, wanted, &|one, other| one.cmp(other));
            assert_eq!(elements[..wanted], expected[..wanted]);
            elements.sort_unstable();
            assert_eq!(elements, expected);
        }
    }
}
