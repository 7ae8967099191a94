// SPDX-License-Identifier: BSD-3-Clause
//! Glob-style matching (`*`, `?`, `[a-z]`, `[^a]`, `\x`) for CONFIG GET and include lines. The data plane has its own for keys.

/// Does `text` match `pattern`?
pub fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let fold = |b: u8| if ignore_case { b.to_ascii_lowercase() } else { b };
    let (mut p, mut t) = (0, 0);
    // Where to resume after a mismatch: past the last star, one byte further in the text.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            None if t == text.len() => return true,
            None => None,
            Some(_) if t == text.len() => None,
            Some(b'?') => Some(p + 1),
            Some(b'[') => class(pattern, p, fold(text[t]), &fold),
            Some(b'\\') if p + 1 < pattern.len() => (fold(pattern[p + 1]) == fold(text[t])).then_some(p + 2),
            Some(&byte) => (fold(byte) == fold(text[t])).then_some(p + 1),
        };
        match (step, star) {
            (Some(next), _) => {
                p = next;
                t += 1;
            }
            (None, Some((after, from))) if from < text.len() => {
                star = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
            _ => return false,
        }
    }
}

/// Index after the class that starts at `open`, if `byte` is in it.
fn class(pattern: &[u8], open: usize, byte: u8, fold: &dyn Fn(u8) -> u8) -> Option<usize> {
    let mut i = open + 1;
    let negated = pattern.get(i) == Some(&b'^');
    if negated {
        i += 1;
    }
    let mut found = false;
    while i < pattern.len() && pattern[i] != b']' {
        if pattern[i] == b'\\' && i + 1 < pattern.len() {
            i += 1;
            found |= fold(pattern[i]) == byte;
        } else if i + 2 < pattern.len() && pattern[i + 1] == b'-' {
            let (a, b) = (fold(pattern[i]), fold(pattern[i + 2]));
            found |= (a.min(b)..=a.max(b)).contains(&byte);
            i += 2;
        } else {
            found |= fold(pattern[i]) == byte;
        }
        i += 1;
    }
    (found != negated).then_some((i + 1).min(pattern.len()))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "abc", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("?", "a", true),
            ("?", "", false),
            ("[a-c]x", "bx", true),
            ("[^a]", "a", false),
            ("\\*", "*", true),
            ("MAX*", "maxclients", true),
            ("*x*y*", "axbyc", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), true), expected, "{pattern} {text}");
        }
    }
}
