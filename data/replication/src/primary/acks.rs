// SPDX-License-Identifier: BSD-3-Clause
//! Reads what a replica sends up the link: REPLCONF ACK, and empty lines that keep the link alive.

use pando_formats::aof::{AofError, AofItem, AofReader};

/// Parses the upward direction of one link.
#[derive(Default)]
pub(crate) struct AckReader {
    reader: AofReader,
}

impl AckReader {
    /// Takes bytes; answers the highest offset acknowledged in them.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Option<u64>, AofError> {
        self.reader.push(bytes);
        let mut acked = None;
        while let Some(item) = self.reader.next()? {
            if let AofItem::Command { args, .. } = item
                && let [name, what, offset, ..] = args[..]
                && name.eq_ignore_ascii_case(b"replconf")
                && what.eq_ignore_ascii_case(b"ack")
                && let Some(offset) = std::str::from_utf8(offset).ok().and_then(|s| s.parse::<u64>().ok())
            {
                acked = acked.max(Some(offset));
            }
        }
        Ok(acked)
    }
}

#[cfg(test)]
mod tests {
    use super::AckReader;

    #[test]
    fn finds_acks_between_other_things() {
        let mut reader = AckReader::default();
        let ack = b"\n*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n17\r\n*1\r\n$4\r\nPING\r\n";
        assert_eq!(reader.push(&ack[..20]), Ok(None));
        assert_eq!(reader.push(&ack[20..]), Ok(Some(17)));
        let with_aof = b"*5\r\n$8\r\nreplconf\r\n$3\r\nack\r\n$2\r\n19\r\n$4\r\nFACK\r\n$1\r\n3\r\n";
        assert_eq!(reader.push(with_aof), Ok(Some(19)));
        assert!(reader.push(b"nonsense\r\n").is_err());
    }
}
