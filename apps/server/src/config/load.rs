// SPDX-License-Identifier: BSD-3-Clause
//! Reads the command line and configuration files into values, by Valkey's rules: a file, then standard input if `-`
//! was given, then `--directive value...`, all as one text in which the later line wins. Called once at the start.

use super::Values;
use super::kind::Kind;
use super::table::{RETIRED, TABLE, find};
use super::words::{quote, split};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Version that Pando is compatible with, as it is shown to clients.
pub const VALKEY_VERSION: &str = "9.1.2";

/// Why the configuration could not be read: the text for standard error.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A line is wrong.
    #[error(
        "\n*** FATAL CONFIG FILE ERROR (Version {VALKEY_VERSION}) ***\nReading the configuration file, at line {line} of {origin}\n>>> '{text}'\n{reason}"
    )]
    Line {
        /// The file, or where else the line stood.
        origin: String,
        /// Counted from 1.
        line: usize,
        /// The line itself.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be read.
    #[error("Fatal error, can't open config file '{path}': {reason}")]
    File {
        /// As it was named.
        path: String,
        /// From the operating system.
        reason: String,
    },
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// `--version`.
    Version,
    /// `--help`.
    Help,
    /// Start with these values.
    Start(Box<Loaded>),
}

/// The values and where they came from.
#[derive(Debug)]
pub struct Loaded {
    /// All values.
    pub values: Values,
    /// The file named first, as an absolute path.
    pub file: Option<PathBuf>,
}

/// Reads arguments (without the program's name).
pub fn from_args(args: &[String]) -> Result<Invocation, LoadError> {
    if let [one] = args {
        match one.as_str() {
            "-v" | "--version" => return Ok(Invocation::Version),
            "-h" | "--help" => return Ok(Invocation::Help),
            _ => {}
        }
    }
    let mut rest = args;
    let mut file = None;
    let mut values = Values::defaults();
    let mut seen = Seen::default();
    if let Some(first) = args.first()
        && !first.starts_with("--")
        && first != "-"
    {
        let path = std::path::absolute(first).unwrap_or_else(|_| PathBuf::from(first));
        load_text(&read_file(&path)?, &path.display().to_string(), &mut values, &mut seen)?;
        file = Some(path);
        rest = &args[1..];
    }
    let (options, from_stdin) = match rest.split_last() {
        Some((last, others)) if last == "-" => (others, true),
        _ => match rest.split_first() {
            Some((first, others)) if first == "-" => (others, true),
            _ => (rest, false),
        },
    };
    if from_stdin {
        let mut stdin = String::new();
        // A text that is not UTF-8 is as unreadable as none.
        let _ = std::io::stdin().read_to_string(&mut stdin);
        load_text(&stdin, "standard input", &mut values, &mut seen)?;
    }
    load_text(&options_as_lines(options), "the command line", &mut values, &mut seen)?;
    Ok(Invocation::Start(Box::new(Loaded { values, file })))
}

/// `--port 7 --save ""` as configuration lines. A word with dashes right behind an option's name is its value.
fn options_as_lines(options: &[String]) -> String {
    let mut text = String::new();
    let mut may_be_option = true;
    for (index, word) in options.iter().enumerate() {
        let Some(name) = word.strip_prefix("--").filter(|_| may_be_option) else {
            text.push_str(&quote(word));
            text.push(' ');
            may_be_option = true;
            continue;
        };
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(name);
        text.push(' ');
        // `"--port 7"` as one word has its value already.
        may_be_option = split(name).is_some_and(|words| words.len() > 1);
        let next_is_option = options.get(index + 1).is_none_or(|next| next.starts_with("--"));
        if name.eq_ignore_ascii_case("save") && next_is_option {
            text.push_str("\"\"");
            may_be_option = true;
        }
    }
    text.push('\n');
    text
}

fn read_file(path: &Path) -> Result<String, LoadError> {
    let bytes = std::fs::read(path)
        .map_err(|e| LoadError::File { path: path.display().to_string(), reason: super::os_reason(&e) })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Lists which the first line replaces and further lines extend.
#[derive(Default)]
struct Seen {
    save: bool,
    depth: usize,
}

fn load_text(text: &str, origin: &str, values: &mut Values, seen: &mut Seen) -> Result<(), LoadError> {
    for (index, raw) in text.split('\n').enumerate() {
        let line = raw.trim_matches([' ', '\t', '\r', '\n']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fail = |reason: &str| LoadError::Line {
            origin: origin.to_owned(),
            line: index + 1,
            text: line.to_owned(),
            reason: reason.to_owned(),
        };
        let Some(mut words) = split(line) else {
            return Err(fail("Unbalanced quotes in configuration line"));
        };
        if words.is_empty() {
            continue;
        }
        let name = words.remove(0).to_ascii_lowercase();
        match name.as_str() {
            "include" if words.len() == 1 => {
                include(&words[0], values, seen)?;
                continue;
            }
            "rename-command" if words.len() == 2 => {
                if pando_commands::find_spec(words[0].as_bytes()).is_none() {
                    return Err(fail("No such command in rename-command"));
                }
                if pando_commands::find_spec(words[1].as_bytes()).is_some() {
                    return Err(fail("Target command name already exists"));
                }
                values.extra.push((name, words));
                continue;
            }
            "user" if !words.is_empty() => {
                values.extra.push((name, words));
                continue;
            }
            retired if RETIRED.contains(&retired) => continue,
            _ => {}
        }
        let Some(directive) = find(&name) else {
            return Err(fail("Bad directive or wrong number of arguments"));
        };
        let kind = TABLE[directive].kind;
        if words.is_empty() && !kind.takes_many() {
            return Err(fail("wrong number of arguments"));
        }
        if let [one] = words.as_slice()
            && kind.takes_many()
            && !one.is_empty()
        {
            words = one.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect();
        }
        let mut current = values.get(directive).to_owned();
        if kind == Kind::Save && !std::mem::replace(&mut seen.save, true) {
            current.clear();
        }
        let value = kind.parse(&words, &current).map_err(|reason| fail(&reason))?;
        values.set(directive, value);
    }
    Ok(())
}

/// Files that a pattern names, in order; a name without a pattern must exist.
fn include(pattern: &str, values: &mut Values, seen: &mut Seen) -> Result<(), LoadError> {
    // A file that includes itself would never end; Valkey stops at 16 levels as well.
    if seen.depth >= 16 {
        return Err(LoadError::File { path: pattern.to_owned(), reason: "too many nested includes".to_owned() });
    }
    seen.depth += 1;
    let has_pattern = pattern.contains(['*', '?', '[']);
    let files = if has_pattern { glob_files(pattern) } else { vec![PathBuf::from(pattern)] };
    for file in files {
        let text = read_file(&file)?;
        load_text(&text, &file.display().to_string(), values, seen)?;
    }
    seen.depth -= 1;
    Ok(())
}

/// Patterns are allowed in the last part of the path.
fn glob_files(pattern: &str) -> Vec<PathBuf> {
    let path = Path::new(pattern);
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| super::glob::matches(name.as_bytes(), entry.file_name().as_encoded_bytes(), false))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::{Invocation, from_args};

    fn value(args: &[&str], name: &str) -> Result<String, String> {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        match from_args(&args) {
            Ok(Invocation::Start(loaded)) => Ok(loaded.values.named(name).to_owned()),
            Ok(_) => Err("no start".to_owned()),
            Err(error) => Err(error.to_string().lines().last().unwrap_or_default().to_owned()),
        }
    }

    fn check(args: &[&str], name: &str, expected: Result<&str, &str>) {
        let got = value(args, name);
        assert_eq!(got.as_ref().map(String::as_str).map_err(String::as_str), expected, "{args:?}");
    }

    #[test]
    fn options_are_read_like_lines() {
        check(&["--port", "7"], "port", Ok("7"));
        check(&["--port", "7", "--port", "8"], "port", Ok("8"));
        check(&["--save", ""], "save", Ok(""));
        check(&["--save"], "save", Ok(""));
        check(&["--save", "900", "1"], "save", Ok("900 1"));
        check(&["--save", "900 1 60 5"], "save", Ok("900 1 60 5"));
        check(&["--save", "900 1", "--save", "60 5"], "save", Ok("900 1 60 5"));
        check(&["--bind", "127.0.0.1", "-::1"], "bind", Ok("127.0.0.1 -::1"));
        check(&["--slaveof", "h", "6"], "replicaof", Ok("h 6"));
        check(&["--port", "1", "2"], "port", Err("wrong number of arguments"));
        check(&["--appendonly"], "port", Err("wrong number of arguments"));
        check(&["--port 7", "--save", "--loglevel", "verbose"], "loglevel", Ok("verbose"));
        check(&["--port", "--loglevel", "verbose"], "port", Err("wrong number of arguments"));
        check(&["--port", "--x", "--loglevel", "verbose"], "port", Err("argument couldn't be parsed into an integer"));
        check(&["--logfile", "--x", "--loglevel", "debug"], "logfile", Ok("--x"));
        check(&["--shutdown-on-sigint", "force now nosave"], "shutdown-on-sigint", Ok("nosave now force"));
        check(
            &["--shutdown-on-sigint"],
            "port",
            Err("argument(s) must be one of the following: default, save, nosave, now, force, safe, failover"),
        );
        check(&["--rename-command", "flushall", ""], "port", Ok("6379"));
        check(&["--rename-command", "nosuch", "x"], "port", Err("No such command in rename-command"));
        check(&["--rename-command", "flushall", "get"], "port", Err("Target command name already exists"));
        check(
            &["--latency-tracking-info-percentiles", "0.0 50.0 99.9"],
            "latency-tracking-info-percentiles",
            Ok("0 50 99.9"),
        );
        check(&["--maxmemory", "9223372036854775808"], "maxmemory", Ok("9223372036854775808"));
        check(&["--slot-migration-max-failover-repl-bytes", "-1"], "slot-migration-max-failover-repl-bytes", Ok("-1"));
        check(
            &["--slot-migration-max-failover-repl-bytes", "-2"],
            "port",
            Err("argument must be between -1 and 9223372036854775807 inclusive"),
        );
        check(
            &["--client-output-buffer-limit"],
            "port",
            Err("Wrong number of arguments in buffer limit configuration."),
        );
        let wrong = from_args(&["--port".to_owned(), "7".to_owned(), "--nope".to_owned(), "1".to_owned()]);
        assert!(
            wrong.is_err_and(|error| error.to_string().contains("at line 2 of the command line\n>>> 'nope \"1\"'"))
        );
        check(&["--foo", "bar"], "port", Err("Bad directive or wrong number of arguments"));
        check(&["--io-threads-do-reads", "yes"], "port", Ok("6379"));
        check(
            &["--client-output-buffer-limit", "pubsub", "1", "2", "3"],
            "client-output-buffer-limit",
            Ok("normal 0 0 0 slave 268435456 67108864 60 pubsub 1 2 3"),
        );
    }
}
