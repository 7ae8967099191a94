// SPDX-License-Identifier: BSD-3-Clause
//! Splitting a line into arguments with Valkey's quoting (`sdssplitargs`): inline commands and
//! lines of a configuration file.

/// What C's `isspace` accepts.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Splits `line` into arguments, or `None` for unbalanced quotes. A NUL byte ends the line.
pub fn split_args(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let line = &line[..line.iter().position(|&b| b == 0).unwrap_or(line.len())];
    let mut args = Vec::new();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|&b| is_space(b)) {
            at += 1;
        }
        if at >= line.len() {
            return Some(args);
        }
        let mut arg = Vec::new();
        at = read_arg(line, at, &mut arg)?;
        args.push(arg);
    }
}

/// Reads one argument from `at`, returns the position after it. Quoted and unquoted parts may follow
/// each other within one argument.
fn read_arg(line: &[u8], mut at: usize, arg: &mut Vec<u8>) -> Option<usize> {
    loop {
        match line.get(at) {
            None => return Some(at),
            // Only these four end an unquoted argument; vertical tab and form feed do not.
            Some(b' ' | b'\n' | b'\r' | b'\t') => return Some(at + 1),
            Some(b'"') => at = read_double_quoted(line, at + 1, arg)?,
            Some(b'\'') => at = read_single_quoted(line, at + 1, arg)?,
            Some(&byte) => {
                arg.push(byte);
                at += 1;
            }
        }
    }
}

fn read_double_quoted(line: &[u8], mut at: usize, arg: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *line.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' if at + 1 < line.len() => {
                if let Some(byte) = hex_escape(&line[at + 1..]) {
                    arg.push(byte);
                    at += 4;
                    continue;
                }
                arg.push(match line[at + 1] {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                at += 2;
            }
            byte => {
                arg.push(byte);
                at += 1;
            }
        }
    }
}

fn read_single_quoted(line: &[u8], mut at: usize, arg: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *line.get(at)? {
            b'\'' => return Some(at + 1),
            b'\\' if line.get(at + 1) == Some(&b'\'') => {
                arg.push(b'\'');
                at += 2;
            }
            byte => {
                arg.push(byte);
                at += 1;
            }
        }
    }
}

fn hex_escape(after_backslash: &[u8]) -> Option<u8> {
    let [b'x', high, low, ..] = *after_backslash else { return None };
    let digit = |b: u8| (b as char).to_digit(16);
    Some((digit(high)? * 16 + digit(low)?) as u8)
}

#[cfg(test)]
mod tests {
    use super::split_args;

    #[test]
    fn quoting() {
        let check = |line: &str, expected: Option<&[&[u8]]>| {
            let got = split_args(line.as_bytes());
            let expected = expected.map(|e| e.iter().map(|a| a.to_vec()).collect::<Vec<_>>());
            assert_eq!(got, expected, "{line:?}");
        };
        check("", Some(&[]));
        check("  \t ", Some(&[]));
        check("set k v", Some(&[b"set", b"k", b"v"]));
        check("  set\tk  v \r", Some(&[b"set", b"k", b"v"]));
        check(r#"set k "a b""#, Some(&[b"set", b"k", b"a b"]));
        check(r#"set k "\x41\n\"\q""#, Some(&[b"set", b"k", b"A\n\"q"]));
        check(r#"set k "\xZ1""#, Some(&[b"set", b"k", b"xZ1"]));
        check(r"set k 'it\'s \n'", Some(&[b"set", b"k", br"it's \n"]));
        check(r#"pre"fix""#, Some(&[b"prefix"]));
        check(r#""""#, Some(&[b""]));
        check(r#"get "a"#, None);
        check(r#"get "a\"#, None);
        check("get 'a", None);
        check(r#"get "a"b"#, Some(&[b"get", b"ab"]));
        check(r#"set """tes"t-'k'e"y" '' "#, Some(&[b"set", b"test-key", b""]));
        check(r#"get 'a'b'"#, None);
    }
}
