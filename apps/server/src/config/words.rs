// SPDX-License-Identifier: BSD-3-Clause
//! Splitting and quoting of configuration lines by Valkey's rules (double quotes with escapes, single quotes). Called
//! by the loader and by CONFIG REWRITE.

/// The words of a line, or None if quotes are unbalanced or text follows a closing quote.
pub fn split(line: &str) -> Option<Vec<String>> {
    let bytes = line.as_bytes();
    let mut words = Vec::new();
    let mut i = 0;
    loop {
        while i < bytes.len() && bytes[i].is_ascii_whitespace() {
            i += 1;
        }
        if i >= bytes.len() {
            return Some(words);
        }
        let mut word = Vec::new();
        let mut quote = 0u8;
        loop {
            let Some(&byte) = bytes.get(i) else {
                if quote != 0 {
                    return None;
                }
                break;
            };
            match (quote, byte) {
                (b'"', b'\\') if i + 3 < bytes.len() && bytes[i + 1] == b'x' && hex_pair(&bytes[i + 2..]).is_some() => {
                    word.push(hex_pair(&bytes[i + 2..]).unwrap_or(0));
                    i += 3;
                }
                (b'"', b'\\') if i + 1 < bytes.len() => {
                    i += 1;
                    word.push(match bytes[i] {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'b' => 8,
                        b'a' => 7,
                        other => other,
                    });
                }
                (b'\'', b'\\') if bytes.get(i + 1) == Some(&b'\'') => {
                    i += 1;
                    word.push(b'\'');
                }
                (b'"', b'"') | (b'\'', b'\'') => {
                    i += 1;
                    if bytes.get(i).is_some_and(|b| !b.is_ascii_whitespace()) {
                        return None;
                    }
                    break;
                }
                (0, b'"') | (0, b'\'') => quote = byte,
                (0, b) if b.is_ascii_whitespace() => break,
                _ => word.push(byte),
            }
            i += 1;
        }
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
}

fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(bytes.get(..2)?).ok()?;
    u8::from_str_radix(text, 16).ok()
}

/// The word in double quotes, with escapes.
pub fn quote(word: &str) -> String {
    let mut out = String::with_capacity(word.len() + 2);
    out.push('"');
    for c in word.chars() {
        match c {
            '\\' | '"' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The word as it is, or quoted if it would not be read back as one word otherwise.
pub fn quote_if_needed(word: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\'' | '\\');
    if word.is_empty() || !word.chars().all(plain) { quote(word) } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{quote, quote_if_needed, split};

    fn check(line: &str, expected: Option<&[&str]>) {
        let got = split(line);
        assert_eq!(got.as_deref().map(|w| w.iter().map(String::as_str).collect::<Vec<_>>()).as_deref(), expected);
    }

    #[test]
    fn lines_are_split_like_valkeys() {
        check("port 1", Some(&["port", "1"]));
        check("save \"\"", Some(&["save", ""]));
        check(r#"requirepass "a \"b\" \x41\n""#, Some(&["requirepass", "a \"b\" A\n"]));
        check("a 'b c' d", Some(&["a", "b c", "d"]));
        check("a 'it\\'s'", Some(&["a", "it's"]));
        check("a \"b", None);
        check("a \"b\"c", None);
    }

    #[test]
    fn quoting_is_undone_by_splitting() {
        for word in ["", "a b", "x\"y\\", "tab\t", "plain"] {
            assert_eq!(split(&quote(word)), Some(vec![word.to_owned()]));
            assert_eq!(split(&quote_if_needed(word)), Some(vec![word.to_owned()]));
        }
    }
}
