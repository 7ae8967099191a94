// SPDX-License-Identifier: BSD-3-Clause
//! Which of Valkey 9.1.2's commands there are, computed: COMMAND of both servers, compared entry by entry. The README has
//! the result between two markers; `PANDO_FIX=1` writes it there.

use std::collections::BTreeMap;

use pando_procs::{Node, Software, peers};
use pando_resp::decode::Value;

const BEGIN: &str =
    "<!-- coverage: computed; PANDO_FIX=1 cargo test -p pando-differential --test coverage writes it -->\n";
const END: &str = "<!-- end of coverage -->";

/// What only Pando has (`data/commands/pando.json`).
const OWN: &[&str] = &["cluster|explain"];

/// Name, and everything that COMMAND tells of it but its subcommands.
type Entries = BTreeMap<String, String>;

fn text(value: &Value) -> String {
    match value {
        Value::Bulk(Some(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Simple(text) => text.clone(),
        other => format!("{other:?}"),
    }
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(Some(items)) | Value::Set(items) => items,
        _ => &[],
    }
}

/// As text, with sets (flags and categories) in one order.
fn facts(entry: &[Value]) -> String {
    let parts = entry.iter().take(9).enumerate().map(|(index, part)| match index {
        2 | 6 => {
            let mut names: Vec<String> = items(part).iter().map(text).collect();
            names.sort();
            names.join(" ")
        }
        _ => format!("{part:?}"),
    });
    parts.collect::<Vec<_>>().join(" | ")
}

fn collect(entries: &[Value], into: &mut Entries) {
    for entry in entries {
        let entry = items(entry);
        let Some(name) = entry.first() else { continue };
        into.insert(text(name), facts(entry));
        collect(entry.get(9).map_or(&[], items), into);
    }
}

fn commands(software: Software) -> Entries {
    let node = Node::start(software, &[]).expect("the server starts");
    let reply = node.client().call(&["COMMAND"]).expect("a reply");
    let mut entries = Entries::new();
    collect(items(&reply), &mut entries);
    entries
}

/// The missing ones, subcommands of a container that is missing as a whole left out.
fn missing(ours: &Entries, theirs: &Entries) -> Vec<String> {
    let is_told = |name: &String| name.split_once('|').is_none_or(|(container, _)| ours.contains_key(container));
    let names = theirs.keys().filter(|name| !ours.contains_key(*name) && is_told(name));
    names.map(|name| name.replace('|', " ").to_uppercase()).collect()
}

#[test]
fn what_there_is_is_as_in_valkey_and_the_readme_says_what_is_not() {
    let (mut ours, theirs) = (commands(Software::Pando), commands(Software::Valkey));
    for name in OWN {
        assert!(ours.remove(*name).is_some() && !theirs.contains_key(*name), "{name}");
    }
    assert!(theirs.len() > 350, "the reference shows {} commands", theirs.len());
    for (name, facts) in &ours {
        assert_eq!(Some(facts), theirs.get(name), "{name}");
    }
    let computed = format!(
        "{BEGIN}Of the {} commands and subcommands of Valkey 9.1.2 {} are there, with its arity, flags, categories and key \
         specifications. Not yet: {}.\n{END}",
        theirs.len(),
        ours.len(),
        missing(&ours, &theirs).join(", ")
    );
    println!("{computed}");
    let path = peers::workspace().join("README.md");
    let readme = std::fs::read_to_string(&path).expect("README.md");
    let (before, rest) = readme.split_once(BEGIN).expect("the first marker");
    let (_, after) = rest.split_once(END).expect("the second marker");
    let wanted = format!("{before}{computed}{after}");
    if std::env::var_os("PANDO_FIX").is_some() {
        std::fs::write(&path, &wanted).expect("README.md is written");
    }
    assert!(
        readme == wanted || std::env::var_os("PANDO_FIX").is_some(),
        "README.md is not current; computed:\n{computed}"
    );
}
