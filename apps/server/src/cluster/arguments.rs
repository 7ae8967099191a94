// SPDX-License-Identifier: BSD-3-Clause
//! Arguments of CLUSTER subcommands: slots, ranges, ids. Pure; refusals in Valkey's words.

use pando_commands::CommandError;
use pando_resp::{Args, num};
use pando_topology::{NodeId, Slot, SlotSet};

const BAD_SLOT: CommandError = CommandError::text("ERR Invalid or out of range slot");

/// One slot, for commands that change ownership.
pub fn slot(word: &[u8]) -> Result<Slot, CommandError> {
    let number = num::parse_i64(word).and_then(|number| u16::try_from(number).ok());
    number.and_then(Slot::new).ok_or(BAD_SLOT)
}

/// The slots of ADDSLOTS and DELSLOTS; each may be named once.
pub fn slot_list(words: Args<'_>) -> Result<SlotSet, CommandError> {
    let mut slots = SlotSet::default();
    for word in words {
        let slot = slot(word)?;
        if !slots.insert(slot) {
            return Err(CommandError::format(format!("ERR Slot {} specified multiple times", slot.index())));
        }
    }
    Ok(slots)
}

/// The ranges of ADDSLOTSRANGE and DELSLOTSRANGE; `command` is their name, for the refusal of an odd number of words.
pub fn slot_ranges(words: Args<'_>, command: &'static str) -> Result<SlotSet, CommandError> {
    if !words.len().is_multiple_of(2) {
        return Err(CommandError::Arity(command));
    }
    let mut slots = SlotSet::default();
    for pair in words.chunks_exact(2) {
        let (first, last) = (slot(pair[0])?, slot(pair[1])?);
        if first > last {
            let (first, last) = (first.index(), last.index());
            let text = format!("ERR start slot number {first} is greater than end slot number {last}");
            return Err(CommandError::format(text));
        }
        for slot in Slot::all().skip(first.index()).take(last.index() - first.index() + 1) {
            if !slots.insert(slot) {
                return Err(CommandError::format(format!("ERR Slot {} specified multiple times", slot.index())));
            }
        }
    }
    Ok(slots)
}

/// A node id; anything else is a node that nobody knows.
pub fn node_id(word: &[u8]) -> Result<NodeId, CommandError> {
    let text = std::str::from_utf8(word).unwrap_or_default();
    text.parse().map_err(|_| unknown_node(word))
}

/// The refusal of an id that is not in the map.
pub fn unknown_node(word: &[u8]) -> CommandError {
    CommandError::format(format!("ERR Unknown node {}", String::from_utf8_lossy(word)))
}

/// The address of CLUSTER MEET: host, port, cluster port (0 where it follows from the port).
pub fn address(words: Args<'_>) -> Result<(String, u16, u16), CommandError> {
    let invalid = || {
        let (host, port) = (String::from_utf8_lossy(words[0]), String::from_utf8_lossy(words[1]));
        CommandError::format(format!("ERR Invalid node address specified: {host}:{port}"))
    };
    let number = |word: &[u8], what: &str| {
        let text = || format!("ERR Invalid {what} port specified: {}", String::from_utf8_lossy(word));
        num::parse_i64(word).ok_or_else(|| CommandError::format(text()))
    };
    let in_range = |number: i64| match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(CommandError::text("ERR Port number is out of range")),
    };
    let port = number(words[1], "base")?;
    let cluster_port = match words.get(2) {
        Some(word) => i64::from(in_range(number(word, "bus")?)?),
        None => 0,
    };
    let port = in_range(port)?;
    let host = String::from_utf8_lossy(words[0]).into_owned();
    if host.parse::<std::net::IpAddr>().is_err() {
        return Err(invalid());
    }
    Ok((host, port, cluster_port as u16))
}

#[cfg(test)]
mod tests {
    use super::{address, slot_list, slot_ranges};

    fn error<T: std::fmt::Debug>(result: Result<T, pando_commands::CommandError>) -> String {
        result.expect_err("refused").to_string()
    }

    #[test]
    fn refusals_are_valkeys() {
        assert_eq!(error(slot_list(&[b"99999"])), "ERR Invalid or out of range slot");
        assert_eq!(error(slot_list(&[b"-1"])), "ERR Invalid or out of range slot");
        assert_eq!(error(slot_list(&[b"5", b"5"])), "ERR Slot 5 specified multiple times");
        let odd = error(slot_ranges(&[b"1"], "cluster|addslotsrange"));
        assert_eq!(odd, "ERR wrong number of arguments for 'cluster|addslotsrange' command");
        let turned = error(slot_ranges(&[b"50", b"40"], "x"));
        assert_eq!(turned, "ERR start slot number 50 is greater than end slot number 40");
        assert_eq!(error(address(&[b"1.1.1.1", b"99999"])), "ERR Port number is out of range");
        assert_eq!(error(address(&[b"abc", b"7000"])), "ERR Invalid node address specified: abc:7000");
        assert_eq!(error(address(&[b"1.1.1.1", b"x"])), "ERR Invalid base port specified: x");
        assert_eq!(error(address(&[b"1.1.1.1", b"7000", b"y"])), "ERR Invalid bus port specified: y");
    }

    #[test]
    fn whole_space_in_one_range() {
        assert_eq!(slot_ranges(&[b"0", b"16383"], "x").expect("all").len(), 16384);
        assert_eq!(address(&[b"::1", b"7000", b"17001"]).expect("fine"), ("::1".into(), 7000, 17001));
    }
}
