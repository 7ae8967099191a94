// SPDX-License-Identifier: BSD-3-Clause
//! What values a directive takes: parsing of its words into the canonical text that CONFIG GET shows, with Valkey's
//! error texts. Pure: knows nothing of files, clients or effects. Called by the loader and by CONFIG SET.

use std::fmt::Write as _;

/// The type of a directive's value.
#[derive(Copy, Clone, PartialEq, Debug)]
pub enum Kind {
    /// `yes` or `no`.
    Bool,
    /// One of these words, in any case of letters.
    Enum(&'static [&'static str]),
    /// Several of these words.
    Flags(&'static [&'static str]),
    /// Decimal number in a range (both ends belong to it).
    Int(i64, i64),
    /// Bytes, with an optional unit.
    Memory(i64, i64),
    /// Bytes, with an optional unit, up to the largest number of 64 bits.
    UnsignedMemory,
    /// Bytes, or a percentage of `maxmemory`.
    MemoryOrPercent,
    /// File permissions.
    Octal,
    /// Any text.
    Str,
    /// A list of words, kept as it is.
    Words,
    /// Pairs of seconds and changes.
    Save,
    /// `class hard soft seconds`, once or more.
    OutputLimits,
    /// Classes of keyspace notifications.
    Events,
    /// Three scores.
    OomScores,
    /// Percentages for latency statistics.
    Percentiles,
    /// A directory.
    Dir,
    /// `host port`, or `no one`.
    ReplicaOf,
    /// A host name.
    Hostname,
    /// Pando: `data`, `root` or both.
    Roles,
}

/// A text with a unit, in bytes: `64mb`, `1k`, `100`. None if it is not one.
pub fn parse_memory(text: &str) -> Option<i64> {
    parse_bytes(text).and_then(|bytes| i64::try_from(bytes).ok())
}

/// The same up to the largest number of 64 bits.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1024,
        "m" => 1_000_000,
        "mb" => 1024 * 1024,
        "g" => 1_000_000_000,
        "gb" => 1024 * 1024 * 1024,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// Bits of the notification classes in the order of `EVENT_LETTERS`.
const EVENT_LETTERS: &str = "g$lshzxetd";

fn canonical_events(text: &str) -> Result<String, String> {
    let mut classes = [false; 10];
    let (mut keyspace, mut keyevent, mut missed, mut new) = (false, false, false, false);
    for letter in text.chars() {
        match letter {
            'A' => classes = [true; 10],
            'K' => keyspace = true,
            'E' => keyevent = true,
            'm' => missed = true,
            'n' => new = true,
            other => match EVENT_LETTERS.find(other) {
                Some(index) => classes[index] = true,
                None => return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".to_owned()),
            },
        }
    }
    let mut out = String::new();
    if classes.iter().all(|c| *c) {
        out.push('A');
    } else {
        out.extend(EVENT_LETTERS.chars().zip(classes).filter(|(_, on)| *on).map(|(letter, _)| letter));
        if new {
            out.push('n');
        }
    }
    for (letter, on) in [('K', keyspace), ('E', keyevent), ('m', missed)] {
        if on {
            out.push(letter);
        }
    }
    Ok(out)
}

/// Limits of one class of clients.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct OutputLimit {
    /// Bytes at which a client is closed at once; 0 = none.
    pub hard_bytes: u64,
    /// Bytes that a client may hold for `soft_seconds`; 0 = none.
    pub soft_bytes: u64,
    /// See `soft_bytes`.
    pub soft_seconds: u64,
}

/// The three classes, in the order in which they are shown.
pub const OUTPUT_CLASSES: [&str; 3] = ["normal", "slave", "pubsub"];

/// Reads the canonical text of `client-output-buffer-limit`.
pub fn output_limits(text: &str) -> [OutputLimit; 3] {
    let mut limits = [OutputLimit::default(); 3];
    let words: Vec<&str> = text.split(' ').collect();
    for group in words.chunks_exact(4) {
        if let Some(class) = OUTPUT_CLASSES.iter().position(|c| *c == group[0]) {
            let number = |i: usize| group[i].parse().unwrap_or(0);
            limits[class] = OutputLimit { hard_bytes: number(1), soft_bytes: number(2), soft_seconds: number(3) };
        }
    }
    limits
}

fn canonical_limits(words: &[String], current: &str) -> Result<String, String> {
    if !words.len().is_multiple_of(4) || words.is_empty() {
        return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
    }
    let mut limits = output_limits(current);
    for group in words.chunks_exact(4) {
        let class = match group[0].to_ascii_lowercase().as_str() {
            "normal" => 0,
            "slave" | "replica" => 1,
            "pubsub" => 2,
            _ => return Err("Invalid client class specified in buffer limit configuration.".to_owned()),
        };
        let bad = || "Error in hard, soft or soft_seconds setting in buffer limit configuration.".to_owned();
        let hard_bytes = parse_memory(&group[1]).ok_or_else(bad)? as u64;
        let soft_bytes = parse_memory(&group[2]).ok_or_else(bad)? as u64;
        let soft_seconds = group[3].parse::<u64>().map_err(|_| bad())?;
        limits[class] = OutputLimit { hard_bytes, soft_bytes, soft_seconds };
    }
    let mut out = String::new();
    for (class, limit) in OUTPUT_CLASSES.iter().zip(limits) {
        let gap = if out.is_empty() { "" } else { " " };
        let _ = write!(out, "{gap}{class} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds);
    }
    Ok(out)
}

impl Kind {
    /// Does the directive take several words?
    pub fn takes_many(&self) -> bool {
        matches!(
            self,
            Kind::Flags(_)
                | Kind::Words
                | Kind::Save
                | Kind::OutputLimits
                | Kind::OomScores
                | Kind::Percentiles
                | Kind::ReplicaOf
                | Kind::Roles
        )
    }

    /// The canonical text of these words. `current` is the value so far, for directives which are set piece by piece.
    pub fn parse(&self, words: &[String], current: &str) -> Result<String, String> {
        if !self.takes_many() && words.len() != 1 {
            return Err("wrong number of arguments".to_owned());
        }
        let first = words.first().map_or("", String::as_str);
        match self {
            Kind::Bool => match first.to_ascii_lowercase().as_str() {
                word @ ("yes" | "no") => Ok(word.to_owned()),
                _ => Err("argument must be 'yes' or 'no'".to_owned()),
            },
            Kind::Enum(allowed) | Kind::Flags(allowed) => {
                let is_known = |word: &String| allowed.iter().any(|a| a.eq_ignore_ascii_case(word));
                if words.is_empty() || !words.iter().all(is_known) {
                    return Err(format!("argument(s) must be one of the following: {}", allowed.join(", ")));
                }
                // In the order of the bits that they stand for.
                let given = |a: &&&str| words.iter().any(|word| a.eq_ignore_ascii_case(word));
                Ok(allowed.iter().filter(given).copied().collect::<Vec<_>>().join(" "))
            }
            Kind::Int(low, high) => {
                let number: i64 = if first.is_empty() || first.starts_with('+') {
                    return Err("argument couldn't be parsed into an integer".to_owned());
                } else {
                    first.parse().map_err(|_| "argument couldn't be parsed into an integer".to_owned())?
                };
                in_range(number, *low, *high).map(|n| n.to_string())
            }
            Kind::UnsignedMemory => {
                let bytes = parse_bytes(first).ok_or_else(|| "argument must be a memory value".to_owned())?;
                Ok(bytes.to_string())
            }
            Kind::Memory(low, high) => {
                let bytes = match first.strip_prefix('-').filter(|_| *low < 0) {
                    Some(bytes) => parse_memory(bytes).map(|bytes| -bytes),
                    None => parse_memory(first),
                };
                let bytes = bytes.ok_or_else(|| "argument must be a memory value".to_owned())?;
                in_range(bytes, *low, *high).map(|n| n.to_string())
            }
            Kind::MemoryOrPercent => match first.strip_suffix('%') {
                Some(percent) => match percent.parse::<u32>() {
                    Ok(n) if n <= 100 => Ok(first.to_owned()),
                    Ok(_) => Err("percentage argument must be less or equal to 100".to_owned()),
                    Err(_) => Err("argument must be a memory or percent value".to_owned()),
                },
                None => parse_memory(first)
                    .map(|n| n.to_string())
                    .ok_or_else(|| "argument must be a memory or percent value".to_owned()),
            },
            Kind::Octal => match u32::from_str_radix(first, 8) {
                Ok(mode) if mode <= 0o777 => Ok(format!("{mode:o}")),
                Ok(_) => Err("argument must be between 0 and 777 inclusive".to_owned()),
                Err(_) => Err("argument couldn't be parsed as an octal number".to_owned()),
            },
            Kind::Str | Kind::Dir => Ok(first.to_owned()),
            Kind::Words => Ok(words.join(" ")),
            Kind::Save => canonical_save(words, current),
            Kind::OutputLimits => canonical_limits(words, current),
            Kind::Events => canonical_events(first),
            Kind::OomScores => canonical_scores(words),
            Kind::Percentiles => canonical_percentiles(words),
            Kind::ReplicaOf => match words {
                [one] if one.is_empty() => Ok(String::new()),
                [no, one] if no.eq_ignore_ascii_case("no") && one.eq_ignore_ascii_case("one") => Ok(String::new()),
                [host, port] => match port.parse::<u16>() {
                    Ok(port) => Ok(format!("{host} {port}")),
                    Err(_) => Err("Invalid primary port".to_owned()),
                },
                _ => Err("wrong number of arguments".to_owned()),
            },
            Kind::Hostname => {
                let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
                if first.len() >= 255 {
                    Err("Hostnames must be less than 255 characters".to_owned())
                } else if first.chars().all(valid) {
                    Ok(first.to_owned())
                } else {
                    Err("Hostnames may only contain alphanumeric characters, hyphens or dots".to_owned())
                }
            }
            Kind::Roles => {
                let all = words.join(",").to_ascii_lowercase();
                let has = |role: &str| all.split([',', ' ']).any(|w| w == role);
                let known = all.split([',', ' ']).all(|w| matches!(w, "" | "data" | "root"));
                match (known, has("data"), has("root")) {
                    (true, true, true) => Ok("data,root".to_owned()),
                    (true, true, false) => Ok("data".to_owned()),
                    (true, false, true) => Ok("root".to_owned()),
                    _ => Err("argument(s) must be one of the following: data, root, data,root".to_owned()),
                }
            }
        }
    }
}

fn in_range(number: i64, low: i64, high: i64) -> Result<i64, String> {
    if (low..=high).contains(&number) {
        Ok(number)
    } else {
        Err(format!("argument must be between {low} and {high} inclusive"))
    }
}

fn canonical_save(words: &[String], current: &str) -> Result<String, String> {
    if words.iter().all(String::is_empty) && words.len() <= 1 {
        return Ok(String::new());
    }
    if !words.len().is_multiple_of(2) {
        return Err("Invalid save parameters".to_owned());
    }
    let mut out = current.to_owned();
    for pair in words.chunks_exact(2) {
        match (pair[0].parse::<i64>(), pair[1].parse::<i64>()) {
            (Ok(seconds), Ok(changes)) if seconds >= 1 && changes >= 0 => {
                let gap = if out.is_empty() { "" } else { " " };
                let _ = write!(out, "{gap}{seconds} {changes}");
            }
            _ => return Err("Invalid save parameters".to_owned()),
        }
    }
    Ok(out)
}

fn canonical_scores(words: &[String]) -> Result<String, String> {
    if words.len() != 3 {
        return Err("wrong number of arguments".to_owned());
    }
    for word in words {
        match word.parse::<i32>() {
            Ok(score) if (-2000..=2000).contains(&score) => {}
            _ => return Err("Invalid oom-score-adj-values, elements must be between -2000 and 2000.".to_owned()),
        }
    }
    Ok(words.join(" "))
}

fn canonical_percentiles(words: &[String]) -> Result<String, String> {
    if let [one] = words
        && one.is_empty()
    {
        return Ok(String::new());
    }
    let mut shown = Vec::with_capacity(words.len());
    for word in words {
        match word.parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => shown.push(percent.to_string()),
            Ok(_) => {
                return Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".to_owned());
            }
            Err(_) => return Err("Invalid latency-tracking-info-percentiles parameters".to_owned()),
        }
    }
    Ok(shown.join(" "))
}

#[cfg(test)]
mod tests {
    use super::{Kind, parse_memory};

    fn check(kind: Kind, words: &str, current: &str, expected: Result<&str, &str>) {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let got = kind.parse(&words, current);
        assert_eq!(got.as_ref().map(String::as_str).map_err(String::as_str), expected, "{kind:?} {words:?}");
    }

    #[test]
    fn values_become_canonical_or_are_refused_in_valkeys_words() {
        check(Kind::Bool, "YES", "", Ok("yes"));
        check(Kind::Bool, "maybe", "", Err("argument must be 'yes' or 'no'"));
        check(Kind::Int(0, 9), "10", "", Err("argument must be between 0 and 9 inclusive"));
        check(Kind::Int(0, 9), "x", "", Err("argument couldn't be parsed into an integer"));
        check(Kind::Int(0, 9), "1 2", "", Err("wrong number of arguments"));
        check(Kind::Memory(0, i64::MAX), "1gb", "", Ok("1073741824"));
        check(Kind::Memory(0, i64::MAX), "1x", "", Err("argument must be a memory value"));
        check(Kind::Enum(&["a", "b"]), "c", "", Err("argument(s) must be one of the following: a, b"));
        check(Kind::Octal, "0755", "", Ok("755"));
        check(Kind::Save, "900 1", "", Ok("900 1"));
        check(Kind::Save, "60 10", "900 1", Ok("900 1 60 10"));
        check(Kind::Save, "", "900 1", Ok(""));
        check(Kind::Save, "abc", "", Err("Invalid save parameters"));
        check(
            Kind::OutputLimits,
            "replica 1mb 0 0",
            "normal 0 0 0 slave 5 0 0 pubsub 1 2 3",
            Ok("normal 0 0 0 slave 1048576 0 0 pubsub 1 2 3"),
        );
        check(Kind::Events, "KEA", "", Ok("AKE"));
        check(Kind::Events, "q", "", Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'."));
        check(Kind::ReplicaOf, "NO one", "", Ok(""));
        check(Kind::ReplicaOf, "h 1", "", Ok("h 1"));
        check(Kind::Roles, "root,data", "", Ok("data,root"));
    }

    #[test]
    fn memory_units() {
        assert_eq!(parse_memory("1k"), Some(1000));
        assert_eq!(parse_memory("2KB"), Some(2048));
        assert_eq!(parse_memory("-1"), None);
        assert_eq!(parse_memory("9223372036854775807gb"), None);
    }
}
