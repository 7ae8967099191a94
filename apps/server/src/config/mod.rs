// SPDX-License-Identifier: BSD-3-Clause
//! Configuration: the table of directives, their values, and what CONFIG does with them. Not the effects of a change:
//! the server hands in a function that applies them. `Config` is shared by all threads; the values that the network
//! layer reads often are in `ServerSettings`, swapped as a whole.

pub mod glob;
pub mod kind;
pub mod load;
pub mod rewrite;
pub mod table;
pub mod typed;
pub mod words;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use table::{Access, Effect, TABLE, find};
pub use typed::ServerSettings;

/// The value of every directive, by its index in the table.
#[derive(Clone, Debug)]
pub struct Values {
    values: Vec<String>,
    /// Lines that are no directives with one value: `user`, `rename-command`.
    pub extra: Vec<(String, Vec<String>)>,
}

impl Values {
    /// Everything as it is without a file.
    pub fn defaults() -> Values {
        Values { values: TABLE.iter().map(|d| d.default.to_owned()).collect(), extra: Vec::new() }
    }

    /// The value at an index of the table.
    pub fn get(&self, index: usize) -> &str {
        &self.values[index]
    }

    /// Replaces the value at an index of the table.
    pub fn set(&mut self, index: usize, value: String) {
        self.values[index] = value;
    }

    /// The value of the directive with this name.
    ///
    /// # Panics
    /// If there is none: names are written in this program.
    pub fn named(&self, name: &str) -> &str {
        match find(name) {
            Some(index) => self.get(index),
            None => panic!("no directive is called {name}"),
        }
    }

    /// The number in the directive with this name, 0 if it holds none.
    pub fn number(&self, name: &str) -> i64 {
        self.named(name).parse().unwrap_or(0)
    }

    /// Is the directive with this name `yes`?
    pub fn is_yes(&self, name: &str) -> bool {
        self.named(name) == "yes"
    }

    /// Names of directives that were changed and have no effect in this version.
    pub fn changed_without_effect(&self) -> Vec<&'static str> {
        TABLE
            .iter()
            .enumerate()
            .filter(|(i, d)| d.effect == Effect::Kept && self.get(*i) != d.default)
            .map(|(_, d)| d.name)
            .collect()
    }
}

/// A change that could not be applied: which directive, and why.
pub type ApplyError = (usize, String);

/// Makes values true; is told which of them changed.
pub type Apply<'a> = dyn FnMut(&Values, &[usize]) -> Result<(), ApplyError> + 'a;

/// The configuration of a running server.
#[derive(Debug)]
pub struct Config {
    values: Mutex<Values>,
    typed: ArcSwap<ServerSettings>,
    file: Option<PathBuf>,
}

impl Config {
    /// Takes over what was loaded.
    pub fn new(values: Values, file: Option<PathBuf>) -> Config {
        let typed = ArcSwap::from_pointee(ServerSettings::from_values(&values));
        Config { values: Mutex::new(values), typed, file }
    }

    /// The values that the network layer reads.
    pub fn settings(&self) -> Arc<ServerSettings> {
        self.typed.load_full()
    }

    /// The same without counting a reference; for the hot path.
    pub fn settings_ref(&self) -> arc_swap::Guard<Arc<ServerSettings>> {
        self.typed.load()
    }

    /// A copy of all values.
    pub fn values(&self) -> Values {
        self.values.lock().clone()
    }

    /// The value of one directive.
    pub fn value(&self, name: &str) -> String {
        self.values.lock().named(name).to_owned()
    }

    /// The configuration file, if there is one.
    pub fn file(&self) -> Option<&PathBuf> {
        self.file.as_ref()
    }

    /// Names and values which match one of the patterns, each name once.
    pub fn matching(&self, patterns: &[&[u8]]) -> Vec<(&'static str, String)> {
        let values = self.values.lock();
        let mut found = Vec::new();
        for (index, directive) in TABLE.iter().enumerate() {
            for name in [directive.name, directive.alias] {
                let asks_for = |pattern: &&[u8]| match directive.effect {
                    Effect::Hidden => pattern.eq_ignore_ascii_case(name.as_bytes()),
                    Effect::Live | Effect::Kept => glob::matches(pattern, name.as_bytes(), true),
                };
                if !name.is_empty() && patterns.iter().any(asks_for) {
                    found.push((name, values.get(index).to_owned()));
                }
            }
        }
        // Aliases stand among the names, not beside their own.
        found.sort_unstable_by_key(|(name, _)| *name);
        found
    }

    /// CONFIG SET: all of the pairs or none. `apply` makes the new values true and is called again with the old ones
    /// if it fails. `protected_allowed` says whether this client may change protected directives.
    pub fn set(
        &self,
        pairs: &[(String, String)],
        protected_allowed: bool,
        apply: &mut Apply<'_>,
    ) -> Result<(), String> {
        let refused =
            |name: &str, why: &str| format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}");
        let mut indexes = Vec::with_capacity(pairs.len());
        for (name, same) in pairs {
            let Some(index) = find(name) else {
                return Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"));
            };
            match TABLE[index].access {
                // Tools that set everything to what it is must not stumble over directives that only we have.
                Access::Fixed
                    if TABLE[index].name.starts_with("cluster-root") && self.value(TABLE[index].name) == *same => {}
                Access::Fixed if TABLE[index].name == "cluster-roles" && self.value(TABLE[index].name) == *same => {}
                Access::Fixed => return Err(refused(name, "can't set immutable config")),
                Access::Protected if !protected_allowed => return Err(refused(name, "can't set protected config")),
                _ => {}
            }
            if indexes.contains(&index) {
                return Err(refused(name, "duplicate parameter"));
            }
            indexes.push(index);
        }
        let mut values = self.values.lock();
        let old = values.clone();
        let mut new = old.clone();
        for ((name, text), index) in pairs.iter().zip(&indexes) {
            let kind = TABLE[*index].kind;
            let words: Vec<String> = if kind.takes_many() && !text.is_empty() {
                text.split(' ').map(str::to_owned).collect()
            } else {
                vec![text.clone()]
            };
            let current = if kind == kind::Kind::Save { "" } else { old.get(*index) };
            let value = kind.parse(&words, current).map_err(|why| refused(name, &why))?;
            new.set(*index, value);
        }
        let changed: Vec<usize> = indexes.iter().copied().filter(|i| old.get(*i) != new.get(*i)).collect();
        if let Err((index, why)) = apply(&new, &changed) {
            // The old values were true a moment ago; what cannot be restored now is logged by `apply` itself.
            let _ = apply(&old, &changed);
            let name = pairs.iter().zip(&indexes).find(|(_, i)| **i == index).map_or("", |((name, _), _)| name);
            return Err(refused(name, &why));
        }
        self.typed.store(Arc::new(ServerSettings::from_values(&new)));
        *values = new;
        Ok(())
    }

    /// Changes one directive without asking whether a client may: for REPLICAOF and the like.
    pub fn force(&self, name: &str, value: String) {
        let mut values = self.values.lock();
        if let Some(index) = find(name) {
            values.set(index, value);
            self.typed.store(Arc::new(ServerSettings::from_values(&values)));
        }
    }
}

/// The operating system's words for an error, without Rust's "(os error 2)".
pub fn os_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Values};

    fn check(pairs: &[(&str, &str)], expected: Result<(), &str>) {
        let config = Config::new(Values::defaults(), None);
        let pairs: Vec<(String, String)> = pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let got = config.set(&pairs, false, &mut |_, _| Ok(()));
        assert_eq!(got.as_ref().copied().map_err(String::as_str), expected);
    }

    #[test]
    fn config_set_refuses_in_valkeys_words() {
        check(&[("hz", "5"), ("maxmemory", "1gb")], Ok(()));
        check(
            &[("hz", "5"), ("hz", "6")],
            Err("ERR CONFIG SET failed (possibly related to argument 'hz') - duplicate parameter"),
        );
        check(&[("cluster-roles", "data,root"), ("cluster-root-count", "3")], Ok(()));
        check(
            &[("cluster-root-patience", "5")],
            Err(
                "ERR CONFIG SET failed (possibly related to argument 'cluster-root-patience') - can't set immutable config",
            ),
        );
        check(
            &[("cluster-root-count", "4")],
            Err(
                "ERR CONFIG SET failed (possibly related to argument 'cluster-root-count') - argument(s) must be one of the following: 1, 3, 5, 7",
            ),
        );
        check(
            &[("maxmemory-clients", "101%")],
            Err(
                "ERR CONFIG SET failed (possibly related to argument 'maxmemory-clients') - percentage argument must be less or equal to 100",
            ),
        );
        check(&[("foo", "1")], Err("ERR Unknown option or number of arguments for CONFIG SET - 'foo'"));
        check(
            &[("databases", "4")],
            Err("ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config"),
        );
        check(
            &[("dir", "x")],
            Err("ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config"),
        );
        check(
            &[("hz", "abc")],
            Err(
                "ERR CONFIG SET failed (possibly related to argument 'hz') - argument couldn't be parsed into an integer",
            ),
        );
    }

    #[test]
    fn a_change_that_cannot_be_applied_leaves_everything_as_it_was() {
        let config = Config::new(Values::defaults(), None);
        let pairs = [("hz".to_owned(), "7".to_owned()), ("timeout".to_owned(), "9".to_owned())];
        let timeout = super::find("timeout").unwrap_or(0);
        let got = config.set(&pairs, false, &mut |new, _| {
            if new.named("hz") == "7" { Err((timeout, "no".to_owned())) } else { Ok(()) }
        });
        assert_eq!(got, Err("ERR CONFIG SET failed (possibly related to argument 'timeout') - no".to_owned()));
        assert_eq!(config.value("hz"), "10");
    }

    #[test]
    fn config_get_is_sorted_and_hides_what_is_for_tests() {
        let config = Config::new(Values::defaults(), None);
        let names = |pattern: &[u8]| config.matching(&[pattern]).into_iter().map(|p| p.0).collect::<Vec<_>>();
        assert!(names(b"*").is_sorted());
        assert_eq!(names(b"key-load-dela?"), [""; 0]);
        assert_eq!(names(b"key-load-DELAY"), ["key-load-delay"]);
    }

    #[test]
    fn config_get_shows_aliases() {
        let config = Config::new(Values::defaults(), None);
        let names: Vec<_> =
            config.matching(&[b"*lave-priority", b"REPLICA-PRIORITY"]).into_iter().map(|p| p.0).collect();
        assert_eq!(names, ["replica-priority", "slave-priority"]);
    }
}
