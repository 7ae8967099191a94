// SPDX-License-Identifier: BSD-3-Clause
//! Finds where a value ends, in bytes that arrive piece by piece, without decoding it and without starting over: a large
//! collection is looked at once, however many pieces it comes in. Called by the reader of images.

use super::cursor::{Cursor, Stop};

/// What values are made of.
#[derive(Copy, Clone, Debug)]
pub(super) enum Part {
    Str,
    Len,
    /// A double as text: one byte of length, or a code above 252.
    OldDouble,
    Bytes(usize),
    /// A length, and that many times these parts.
    Many(&'static [Part]),
}

#[derive(Debug)]
struct Frame {
    parts: &'static [Part],
    next: usize,
    /// How often the parts are still to come, this time included.
    times: u64,
}

/// How far the search for the end has come.
#[derive(Debug)]
pub(super) struct Extent {
    /// As deep as `Many`s are nested.
    frames: Vec<Frame>,
    /// Bytes of the value that were looked at.
    at: usize,
}

impl Extent {
    pub(super) fn new(parts: &'static [Part]) -> Extent {
        Extent { frames: vec![Frame { parts, next: 0, times: 1 }], at: 0 }
    }

    /// Goes on in `value`, which holds the same bytes as before and perhaps more; answers the value's length.
    pub(super) fn find(&mut self, value: &[u8], base: u64) -> Result<usize, Stop> {
        let mut cursor = Cursor { bytes: value, at: self.at, base };
        while let Some(frame) = self.frames.last_mut() {
            if frame.next == frame.parts.len() {
                frame.next = 0;
                frame.times -= 1;
            }
            if frame.times == 0 {
                self.frames.pop();
                continue;
            }
            let part = frame.parts[frame.next];
            match part {
                Part::Str => cursor.skip_string()?,
                Part::Len => _ = cursor.len()?,
                Part::OldDouble => {
                    let len = cursor.byte()?;
                    if len < 253 {
                        cursor.take(usize::from(len))?;
                    }
                }
                Part::Bytes(n) => _ = cursor.take(n)?,
                Part::Many(_) => {}
            }
            frame.next += 1;
            if let Part::Many(parts) = part {
                match cursor.len() {
                    Ok(times) => self.frames.push(Frame { parts, next: 0, times }),
                    Err(stop) => {
                        frame.next -= 1;
                        return Err(stop);
                    }
                }
            }
            self.at = cursor.at;
        }
        Ok(self.at)
    }
}
