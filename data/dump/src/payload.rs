// SPDX-License-Identifier: BSD-3-Clause
//! The payload of DUMP and RESTORE: one value with a footer.
//!
//! ```text
//! u8 type · value · u16 RDB version · u64 CRC-64/Jones of all before it          (both little-endian)
//! ```

use crate::{LoadContext, LoadError, Loaded, kind_of, load, save};
use pando_formats::crc64;
use pando_formats::rdb::{RdbType, VERSION_VALKEY, VERSION_WRITTEN, ValueOut};
use pando_values::ValueRef;
use std::io;

/// Version and checksum.
const FOOTER: usize = 10;

/// A buffer whose strings are compressed as Valkey does it, so that equal values give equal payloads.
struct Packing {
    bytes: Vec<u8>,
    packs: bool,
}

impl ValueOut for Packing {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.put(bytes)
    }

    fn packs(&self) -> bool {
        self.packs
    }
}

/// The payload of a value. `compress`: long strings are packed where that makes them shorter.
pub fn payload(value: ValueRef<'_>, compress: bool) -> Vec<u8> {
    let mut out = Packing { bytes: vec![kind_of(value).code()], packs: compress };
    // Memory takes everything.
    let _ = save(value, &mut out);
    let mut bytes = out.bytes;
    bytes.extend_from_slice(&(VERSION_VALKEY as u16).to_le_bytes());
    let sum = crc64::update(0, &bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// Why a payload was refused.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RestoreError {
    /// It is of a version that is not taken, or damaged.
    #[error("DUMP payload version or checksum are wrong")]
    Footer,
    /// Its type or its content is not valid; the reason is for logs.
    #[error("Bad data format")]
    Value(Option<LoadError>),
    /// A payload of another product has a type that means something else there.
    #[error("Unsupported foreign data type: {0}")]
    Foreign(u8),
}

/// What of the footer is checked.
#[derive(Copy, Clone, Debug)]
pub struct FooterChecks {
    /// Versions that are not known are refused.
    pub version: bool,
    /// The checksum must be right.
    pub checksum: bool,
}

impl FooterChecks {
    /// All.
    pub const ALL: FooterChecks = FooterChecks { version: true, checksum: true };
}

/// The value of a payload.
pub fn restore(payload: &[u8], cx: &LoadContext<'_>, checks: FooterChecks) -> Result<Loaded, RestoreError> {
    let (body, footer) = payload.split_last_chunk::<FOOTER>().ok_or(RestoreError::Footer)?;
    let version = u32::from(u16::from_le_bytes([footer[0], footer[1]]));
    // What lies between belongs to other products, with other types under the same numbers.
    let is_foreign = (VERSION_WRITTEN + 1..VERSION_VALKEY).contains(&version);
    if version == 0 || ((is_foreign || version > VERSION_VALKEY) && checks.version) {
        return Err(RestoreError::Footer);
    }
    let sum = crc64::update(0, &payload[..payload.len() - 8]).to_le_bytes();
    if checks.checksum && sum != footer[2..] {
        return Err(RestoreError::Footer);
    }
    let (code, value) = body.split_first().ok_or(RestoreError::Value(None))?;
    let kind = RdbType::from_code(*code).ok_or(RestoreError::Value(None))?;
    if is_foreign && *code >= RdbType::FOREIGN_FROM {
        return Err(RestoreError::Foreign(*code));
    }
    load(kind, value, cx).map_err(|error| RestoreError::Value(Some(error)))
}

#[cfg(test)]
mod tests {
    use super::{FooterChecks, payload, restore};
    use crate::{LoadContext, Loaded};
    use pando_values::{Limits, ValueRef};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// As valkey-server 9.1.2 dumps them.
    #[test]
    fn strings_are_dumped_as_valkey_does() {
        for (value, expected) in [
            (ValueRef::Str(b"bar"), "00036261725000299480f170349ae3"),
            (ValueRef::Int(-5), "00c0fb500086ee0f654974589c"),
            (ValueRef::Int(1 << 40), "000d31303939353131363237373736500013ff086f270d2ba3"),
            (ValueRef::Str(&[b'a'; 300]), "00c30c412c016161e0ff00e01700016161500084310bf3cc1480e7"),
            (
                ValueRef::Str(b"abcdefghijklmnopqrstuvwxyz"),
                "001a6162636465666768696a6b6c6d6e6f707172737475767778797a50005131f6a535ae388d",
            ),
        ] {
            assert_eq!(hex(&payload(value, true)), expected);
        }
    }

    #[test]
    fn footers_are_checked() {
        let limits = Limits::default();
        let cx = LoadContext { limits: &limits, drop_due_before_ms: None };
        let good = payload(ValueRef::Str(b"bar"), true);
        assert!(matches!(restore(&good, &cx, FooterChecks::ALL), Ok(Loaded::Str(s)) if s == b"bar"));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(restore(&bad, &cx, FooterChecks::ALL).is_err(), "byte {at}");
            assert!(restore(&good[..at], &cx, FooterChecks::ALL).is_err(), "cut at {at}");
        }
    }
}
