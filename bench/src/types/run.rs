// SPDX-License-Identifier: BSD-3-Clause
//! One row on one server: fills it, then loads it or weighs it.

use pando_procs::Node;
use pando_procs::client::info_field;

use super::{Fill, Shape, Speed};
use crate::load::{self, Figures, Load, Pin};

/// Bytes that a data set takes, per element.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// By INFO's used_memory.
    pub used: f64,
    /// By resident memory.
    pub rss: f64,
}

/// Runs one command against a server that holds nothing but its data.
///
/// # Errors
/// As the server or redis-benchmark says.
pub fn speed_of(node: &Node, row: &Speed, load: Load, pin: Pin) -> Result<Figures, String> {
    empty(node)?;
    for fill in row.fill {
        run_fill(node, fill)?;
    }
    let words: Vec<&str> = row.command.split_whitespace().collect();
    load::run_command(node, &words, load, row.range, pin)
}

/// Fills an empty server and tells what that took.
///
/// # Errors
/// As the server says.
pub fn memory_of(node: &Node, row: &Shape) -> Result<Memory, String> {
    let used = || -> Result<f64, String> {
        let info = node.client().text(&["INFO", "memory"]).map_err(|error| error.to_string())?;
        Ok(info_field(&info, "used_memory").and_then(|text| text.parse().ok()).unwrap_or(f64::NAN))
    };
    let (used_before, rss_before) = (used()?, node.rss_bytes() as f64);
    run_fill(node, &row.fill)?;
    let elements = (row.fill.keys * row.fill.elements) as f64;
    Ok(Memory { used: (used()? - used_before) / elements, rss: (node.rss_bytes() as f64 - rss_before) / elements })
}

pub(super) fn empty(node: &Node) -> Result<(), String> {
    let reply = node.client().text(&["FLUSHALL", "SYNC"]).map_err(|error| error.to_string())?;
    if reply == "OK" { Ok(()) } else { Err(reply) }
}

pub(super) fn run_fill(node: &Node, fill: &Fill) -> Result<(), String> {
    let mut client = node.client();
    let mut batch = Vec::new();
    let mut commands = 0;
    let mut send = |batch: &mut Vec<u8>, commands: &mut u32| -> Result<(), String> {
        client.send_raw(batch).map_err(|error| error.to_string())?;
        batch.clear();
        for _ in 0..std::mem::take(commands) {
            let reply = client.receive().map_err(|error| error.to_string())?;
            if let pando_resp::decode::Value::Error(error) = reply {
                return Err(format!("{}: {error}", fill.head));
            }
        }
        Ok(())
    };
    for key in 0..fill.keys {
        let mut element = 0;
        while element < fill.elements {
            let end = (element + fill.batch).min(fill.elements);
            let mut words: Vec<Vec<u8>> = expand(fill.head, key, element);
            for number in element..end {
                words.append(&mut expand(fill.each, key, number));
            }
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            pando_resp::encode_command(&mut batch, &words);
            commands += 1;
            element = end;
            if batch.len() > 1 << 16 || commands == 500 {
                send(&mut batch, &mut commands)?;
            }
        }
    }
    send(&mut batch, &mut commands)
}

/// The words of a template with its places filled in.
pub(super) fn expand(template: &str, key: u64, element: u64) -> Vec<Vec<u8>> {
    let word = |word: &str| {
        let mut out = String::new();
        let mut rest = word;
        while let Some((before, place, after)) = rest
            .split_once('{')
            .and_then(|(before, rest)| rest.split_once('}').map(|(place, after)| (before, place, after)))
        {
            out.push_str(before);
            match (place.split_at(1), place) {
                (_, "k") => out.push_str(&key.to_string()),
                (("n", width), _) => {
                    let number = element.to_string();
                    let padding = if width.starts_with('0') { '0' } else { 'x' };
                    let width: usize = width.parse().unwrap_or(0);
                    out.extend(std::iter::repeat_n(padding, width.saturating_sub(number.len())));
                    out.push_str(&number);
                }
                _ => out.push_str(place),
            }
            rest = after;
        }
        out.push_str(rest);
        out.into_bytes()
    };
    template.split_whitespace().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn places_are_filled_in() {
        let words: Vec<String> = expand("RPUSH list:{k} {n} {n8} a{n3}b {n04}", 7, 42)
            .into_iter()
            .map(|word| String::from_utf8_lossy(&word).into_owned())
            .collect();
        assert_eq!(words, ["RPUSH", "list:7", "42", "xxxxxx42", "ax42b", "0042"]);
    }
}
