// SPDX-License-Identifier: BSD-3-Clause
//! LZF, the compression of strings in RDB values: unpacking, bounded by the length that the container declares, and
//! packing, which makes the same choices as Valkey's, so that DUMP of equal values gives equal bytes.
//!
//! Called by the reader and the writer of RDB values. Images are written without it.
//! ```text
//! 000nnnnn                   n+1 plain bytes follow
//! nnnooooo oooooooo          copy n+2 bytes (n < 7) from o+1 bytes back
//! 111ooooo nnnnnnnn oooooooo copy n+9 bytes from o+1 bytes back
//! ```

use std::cell::RefCell;

/// The compressed bytes do not describe exactly the declared number of bytes.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid LZF data")]
pub struct LzfError;

/// Decompresses `input`, which must yield exactly `len` bytes.
///
/// A byte of LZF input can yield at most 264/3 bytes, so a hostile `len` is refused before anything is allocated.
pub fn decompress(input: &[u8], len: usize) -> Result<Vec<u8>, LzfError> {
    if len > input.len().saturating_mul(88) {
        return Err(LzfError);
    }
    let mut out = Vec::with_capacity(len);
    let mut i = 0;
    while let Some(&ctrl) = input.get(i) {
        i += 1;
        if ctrl < 32 {
            let run = input.get(i..i + usize::from(ctrl) + 1).ok_or(LzfError)?;
            out.extend_from_slice(run);
            i += run.len();
        } else {
            let mut count = usize::from(ctrl >> 5);
            if count == 7 {
                count += usize::from(*input.get(i).ok_or(LzfError)?);
                i += 1;
            }
            count += 2;
            let low = usize::from(*input.get(i).ok_or(LzfError)?);
            i += 1;
            let back = ((usize::from(ctrl) & 0x1f) << 8) + low + 1;
            let start = out.len().checked_sub(back).ok_or(LzfError)?;
            // Source and target may overlap: a run repeats what it has just written.
            for at in start..start + count {
                let byte = out[at];
                out.push(byte);
            }
        }
        if out.len() > len {
            return Err(LzfError);
        }
    }
    if out.len() == len { Ok(out) } else { Err(LzfError) }
}

/// Longest run of plain bytes.
const RUN_MAX: usize = 32;
/// Farthest that a copy reaches back.
const REACH: usize = 1 << 13;
/// Longest copy.
const COPY_MAX: usize = 264;
/// Longer strings stay as they are: places are kept in 32 bits.
const INPUT_MAX: usize = 1 << 30;

/// Where each hash of three bytes was seen last. Kept between calls: a place from an earlier input lies below `base`,
/// which spares clearing the table for every short string.
struct Seen {
    places: Vec<u32>,
    base: u32,
}

thread_local! {
    static SEEN: RefCell<Seen> = const { RefCell::new(Seen { places: Vec::new(), base: 1 }) };
}

impl Seen {
    fn start(&mut self, len: usize) {
        if self.places.is_empty() || self.base.checked_add(len as u32 + 1).is_none() {
            self.places.clear();
            self.places.resize(1 << 16, 0);
            self.base = 1;
        }
    }

    fn end(&mut self, len: usize) {
        self.base += len as u32;
    }

    fn slot(input: &[u8], at: usize) -> usize {
        let h = u32::from(input[at]) << 16 | u32::from(input[at + 1]) << 8 | u32::from(input[at + 2]);
        ((h >> 8).wrapping_sub(h.wrapping_mul(5)) & 0xffff) as usize
    }

    fn note(&mut self, input: &[u8], at: usize) {
        self.places[Seen::slot(input, at)] = self.base + at as u32;
    }

    /// Notes `at`, and answers where its three bytes were seen before, if a copy can start there.
    fn exchange(&mut self, input: &[u8], at: usize) -> Option<usize> {
        let place = std::mem::replace(&mut self.places[Seen::slot(input, at)], self.base + at as u32);
        // The very first byte is never copied from: the reference cannot tell it from an empty slot.
        let from = place.checked_sub(self.base).filter(|from| *from != 0)? as usize;
        (from < at && at - from <= REACH && input[from..from + 3] == input[at..at + 3]).then_some(from)
    }
}

/// How many bytes to copy. The reference looks at 16 bytes without regard to the limit when that is far away; near the
/// end of the input that decides by a byte or two.
fn copy_len(input: &[u8], from: usize, at: usize) -> usize {
    let most = (input.len() - at - 2).min(COPY_MAX);
    let mut len = 2;
    if most > 16 {
        for _ in 0..16 {
            len += 1;
            if input[from + len] != input[at + len] {
                return len;
            }
        }
    }
    loop {
        len += 1;
        if len >= most || input[from + len] != input[at + len] {
            return len;
        }
    }
}

/// Packs `input` into at most `room` bytes; `None` when it does not fit.
pub fn compress(input: &[u8], room: usize) -> Option<Vec<u8>> {
    if input.len() < 4 || input.len() > INPUT_MAX || room == 0 {
        return None;
    }
    SEEN.with_borrow_mut(|seen| {
        seen.start(input.len());
        let packed = pack(seen, input, room);
        seen.end(input.len());
        packed
    })
}

fn pack(seen: &mut Seen, input: &[u8], room: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(room.min(64 * 1024));
    // Each run starts with a byte for its length, filled in when the run ends, or dropped when it stayed empty.
    let mut run = 0;
    out.push(0);
    let end_run = |out: &mut Vec<u8>, run: usize| {
        if run == 0 {
            out.pop();
        } else {
            let head = out.len() - run - 1;
            out[head] = run as u8 - 1;
        }
    };
    let tail = input.len() - 2;
    let mut at = 0;
    while at < tail {
        let Some(from) = seen.exchange(input, at) else {
            if out.len() >= room {
                return None;
            }
            out.push(input[at]);
            at += 1;
            run += 1;
            if run == RUN_MAX {
                end_run(&mut out, run);
                run = 0;
                out.push(0);
            }
            continue;
        };
        let len = copy_len(input, from, at);
        if out.len() - usize::from(run == 0) + 4 >= room {
            return None;
        }
        end_run(&mut out, run);
        let back = at - from - 1;
        let count = len - 2;
        if count < 7 {
            out.push((count << 5 | back >> 8) as u8);
        } else {
            out.extend_from_slice(&[(7 << 5 | back >> 8) as u8, (count - 7) as u8]);
        }
        out.push(back as u8);
        run = 0;
        out.push(0);
        at += len;
        if at >= tail {
            break;
        }
        seen.note(input, at - 2);
        seen.note(input, at - 1);
    }
    if out.len() + 3 > room {
        return None;
    }
    for byte in &input[at..] {
        out.push(*byte);
        run += 1;
        if run == RUN_MAX {
            end_run(&mut out, run);
            run = 0;
            out.push(0);
        }
    }
    end_run(&mut out, run);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::{LzfError, compress, decompress};

    #[test]
    fn what_valkey_wrote_comes_back() {
        // 300 times 'a', as Valkey 9.1.2 compressed it.
        let packed = [0x01, 0x61, 0x61, 0xe0, 0xff, 0x00, 0xe0, 0x17, 0x00, 0x01, 0x61, 0x61];
        assert_eq!(decompress(&packed, 300), Ok(vec![b'a'; 300]));
        assert_eq!(decompress(&packed, 299), Err(LzfError));
        assert_eq!(decompress(&packed, 301), Err(LzfError));
        assert_eq!(decompress(&packed[..11], 300), Err(LzfError));
        assert_eq!(decompress(&[0x20, 0x00], 3), Err(LzfError));
    }

    #[test]
    fn packs_as_valkey_does() {
        let packed = [0x01, 0x61, 0x61, 0xe0, 0xff, 0x00, 0xe0, 0x17, 0x00, 0x01, 0x61, 0x61];
        assert_eq!(compress(&[b'a'; 300], 296).as_deref(), Some(&packed[..]));
        assert_eq!(compress(b"abcdefghijklmnopqrstuvwxyz", 22), None);
    }

    #[test]
    fn what_was_packed_comes_back() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize
        };
        for round in 0..3000 {
            let letters = 1 + random() % 8;
            let input: Vec<u8> = (0..random() % 600).map(|_| b'a' + (random() % letters) as u8).collect();
            let Some(packed) = compress(&input, input.len().saturating_sub(4)) else { continue };
            assert!(packed.len() + 4 <= input.len(), "round {round}");
            assert_eq!(decompress(&packed, input.len()).as_deref(), Ok(&input[..]), "round {round}");
        }
    }
}
