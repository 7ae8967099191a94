// SPDX-License-Identifier: BSD-3-Clause
//! Glob patterns as the reference server matches them (KEYS, SCAN, PSUBSCRIBE, CONFIG GET, ACL): `*`, `?`, `[a-z]`,
//! `[^...]`, `\x`. Not shell globs: `[` without `]` reaches to the end of the pattern, and nothing is special about `/`.

/// Patterns nested deeper than this do not match; the reference server guards its recursion the same way.
const NESTING_MAX: usize = 1000;

/// True when the whole of `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match_at(pattern, text, Case::Sensitive, &mut false, 0)
}

/// [`matches`] without regard to ASCII case.
pub fn matches_ignore_case(pattern: &[u8], text: &[u8]) -> bool {
    match_at(pattern, text, Case::Ignore, &mut false, 0)
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Case {
    Sensitive,
    Ignore,
}

impl Case {
    fn fold(self, byte: u8) -> u8 {
        if self == Case::Ignore { byte.to_ascii_lowercase() } else { byte }
    }
}

/// `give_up` is set once a `*` was tried on every tail of the text: earlier `*`s then need not try longer matches, which
/// keeps patterns such as `a*a*a*b` from taking exponential time.
fn match_at(mut pattern: &[u8], mut text: &[u8], case: Case, give_up: &mut bool, nesting: usize) -> bool {
    if nesting > NESTING_MAX {
        return false;
    }
    while let (Some(&first), false) = (pattern.first(), text.is_empty()) {
        match first {
            b'*' => {
                while pattern.get(1) == Some(&b'*') {
                    pattern = &pattern[1..];
                }
                if pattern.len() == 1 {
                    return true;
                }
                while !text.is_empty() {
                    if match_at(&pattern[1..], text, case, give_up, nesting + 1) {
                        return true;
                    }
                    if *give_up {
                        return false;
                    }
                    text = &text[1..];
                }
                // The rest of the pattern matched nowhere, so it will not match after a longer earlier star either.
                *give_up = true;
                return false;
            }
            b'?' => text = &text[1..],
            b'[' => {
                let (matched, last) = match_class(pattern, text[0], case);
                if !matched {
                    return false;
                }
                pattern = &pattern[last..];
                text = &text[1..];
            }
            literal => {
                let literal = match (literal, pattern.get(1)) {
                    (b'\\', Some(&escaped)) => {
                        pattern = &pattern[1..];
                        escaped
                    }
                    _ => literal,
                };
                if case.fold(literal) != case.fold(text[0]) {
                    return false;
                }
                text = &text[1..];
            }
        }
        pattern = pattern.get(1..).unwrap_or(&[]);
        if text.is_empty() {
            while pattern.first() == Some(&b'*') {
                pattern = &pattern[1..];
            }
            break;
        }
    }
    pattern.is_empty() && text.is_empty()
}

/// Matches one byte against the class that `pattern` starts with; also the index of the class's last byte.
fn match_class(pattern: &[u8], byte: u8, case: Case) -> (bool, usize) {
    let byte = case.fold(byte);
    let mut at = 1;
    let negated = pattern.get(at) == Some(&b'^');
    if negated {
        at += 1;
    }
    let mut matched = false;
    loop {
        let left = pattern.len() - at.min(pattern.len());
        if left >= 2 && pattern[at] == b'\\' {
            at += 1;
            matched |= case.fold(pattern[at]) == byte;
        } else if left == 0 {
            // Unclosed: the class reaches to the end.
            at = pattern.len() - 1;
            break;
        } else if pattern[at] == b']' {
            break;
        } else if left >= 3 && pattern[at + 1] == b'-' {
            let (low, high) = (case.fold(pattern[at]), case.fold(pattern[at + 2]));
            let (low, high) = (low.min(high), low.max(high));
            at += 2;
            matched |= (low..=high).contains(&byte);
        } else {
            matched |= case.fold(pattern[at]) == byte;
        }
        at += 1;
    }
    (matched != negated, at)
}

#[cfg(test)]
mod tests {
    use super::{matches, matches_ignore_case};

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", false),
            ("", "", true),
            ("*", "a", true),
            ("a*", "a", true),
            ("a**", "abc", true),
            ("*c", "abc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hbllo", true),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("[\\]]", "]", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[abc", "c", true),
            ("[abc", "d", false),
            ("[", "[", false),
            ("a\\", "a\\", true),
            ("abc", "ABC", false),
            ("[a-", "a", true),
            ("*a*b", "xaxb", true),
            ("*a*b", "xaxc", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern:?} on {text:?}");
        }
        assert!(matches_ignore_case(b"A[B-D]*", b"acZ"));
    }

    #[test]
    fn many_stars_take_polynomial_time() {
        let pattern: Vec<u8> = b"a*".repeat(40).into_iter().chain(*b"b").collect();
        assert!(!matches(&pattern, &[b'a'; 400]));
    }
}
