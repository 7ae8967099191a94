// SPDX-License-Identifier: BSD-3-Clause
//! Which commands of the reference server this crate runs. The list of what is missing is printed, not asserted: it only
//! shrinks as families arrive (`cargo test -p pando-commands coverage -- --nocapture`).

use crate::registry::{Lookup, Registry, unknown_command_error};
use crate::spec::{COMMANDS, find_spec};

#[test]
fn coverage_of_the_reference_commands() {
    let registry = Registry::new(&[]);
    let (mut have, mut missing) = (0, Vec::new());
    for spec in &COMMANDS {
        let leaves: Vec<_> = if spec.subcommands.is_empty() { vec![spec] } else { spec.subcommands.iter().collect() };
        for leaf in leaves {
            if registry.has(leaf) {
                have += 1;
            } else {
                missing.push(leaf.name);
            }
        }
    }
    println!("{have} data commands; not in this crate ({}): {}", missing.len(), missing.join(" "));
    assert!(have >= 63, "{have}: a family lost its rows");
}

#[test]
fn every_spec_is_found_by_name_in_any_case() {
    for spec in &COMMANDS {
        assert!(std::ptr::eq(find_spec(spec.name.to_uppercase().as_bytes()).expect(spec.name), spec));
    }
    assert!(find_spec(b"nope").is_none());
}

#[test]
fn ids_are_dense() {
    let mut ids: Vec<u16> = COMMANDS.iter().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands)).map(|spec| spec.id).collect();
    ids.sort_unstable();
    assert!(ids.iter().enumerate().all(|(index, id)| index == usize::from(*id)));
    assert_eq!(ids.len(), crate::COMMAND_ID_COUNT);
}

#[test]
fn unimplemented_commands_are_unknown() {
    let registry = Registry::new(&[("ping", 7), ("config|get", 8)]);
    let lookup = |words: &[&str]| {
        let args: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        match registry.lookup(&args) {
            Lookup::Found(spec, _) => format!("found {}", spec.name),
            Lookup::WrongArity(spec) => format!("arity {}", spec.name),
            Lookup::UnknownCommand => unknown_command_error(&args),
            Lookup::UnknownSubcommand(spec) => format!("unknown sub of {}", spec.name),
        }
    };
    for (words, expected) in [
        (&["PiNg"][..], "found ping"),
        (&["GET", "k"], "found get"),
        (&["GET"], "arity get"),
        (&["lpush", "a", "b"], "ERR unknown command 'lpush', with args beginning with: 'a' 'b' "),
        (&["CONFIG", "GET", "x"], "found config|get"),
        (&["config", "get"], "arity config|get"),
        (&["config", "set", "a", "b"], "unknown sub of config"),
        (&["config"], "arity config"),
        (&["client", "id"], "ERR unknown command 'client', with args beginning with: 'id' "),
        (&["restore-asking"], "ERR unknown command 'restore-asking', with args beginning with: "),
        (&[""], "ERR unknown command '', with args beginning with: "),
    ] {
        assert_eq!(lookup(words), expected);
    }
}

#[test]
fn every_data_command_has_a_summary() {
    let registry = Registry::new(&[]);
    for spec in registry.commands() {
        assert!(!spec.summary.is_empty(), "{} needs a line in summaries.json", spec.name);
        for sub in registry.subcommands(spec) {
            assert!(!sub.summary.is_empty(), "{} needs a line in summaries.json", sub.name);
        }
    }
}
