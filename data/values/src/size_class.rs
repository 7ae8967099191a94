// SPDX-License-Identifier: BSD-3-Clause
//! The sizes that the allocator (jemalloc) really gives. Buffers that ask for these have all of it as capacity, and
//! their capacity is the truth for memory accounting.

/// The bytes that an allocation of `bytes` bytes takes: 8, multiples of 16 up to 128, then four steps per doubling.
#[inline]
pub const fn size_class(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=8 => 8,
        9..=128 => bytes.next_multiple_of(16),
        _ => bytes.next_multiple_of(1 << (usize::BITS - 3 - (bytes - 1).leading_zeros())),
    }
}

#[cfg(test)]
mod tests {
    use super::size_class;

    #[test]
    fn classes_are_jemallocs() {
        for (bytes, class) in [
            (0, 0),
            (1, 8),
            (9, 16),
            (17, 32),
            (33, 48),
            (128, 128),
            (129, 160),
            (161, 192),
            (225, 256),
            (256, 256),
            (257, 320),
            (4097, 5120),
            (8192, 8192),
            (8193, 10240),
            (14337, 16384),
        ] {
            assert_eq!(size_class(bytes), class, "{bytes}");
        }
    }
}
