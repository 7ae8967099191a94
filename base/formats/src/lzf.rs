// SPDX-License-Identifier: BSD-3-Clause
//! LZF decompression, bounded by the length that the container declares.
//!
//! Only decompression: Pando never writes compressed strings. Called by the RDB reader.

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

#[cfg(test)]
mod tests {
    use super::{LzfError, decompress};

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
}
