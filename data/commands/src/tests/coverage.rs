// SPDX-License-Identifier: BSD-3-Clause
//! Which commands of the reference server this crate runs. The list of what is missing is printed, not asserted: it only
//! shrinks as families arrive (`cargo test -p pando-commands coverage -- --nocapture`).

use crate::registry::{Lookup, Registry, RenameError, unknown_command_error};
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
    assert!(have >= 62, "{have}: a family lost its rows");
}

#[test]
fn commands_are_renamed() {
    let mut registry = Registry::new(&[]);
    let get = registry.find(b"get").expect("there");
    assert_eq!(registry.rename(b"GET", b"Fetch"), Ok(()));
    assert_eq!(registry.rename(b"set", b""), Ok(()));
    assert_eq!(registry.rename(b"nosuch", b"x"), Err(RenameError::NoSuchCommand));
    assert_eq!(registry.rename(b"del", b"incr"), Err(RenameError::NameTaken));
    assert!(registry.find(b"fetcH").is_some_and(|found| std::ptr::eq(found, get)));
    for (name, is_there) in [("get", false), ("set", false), ("del", true), ("incr", true)] {
        assert_eq!(registry.find(name.as_bytes()).is_some(), is_there, "{name}");
    }
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
    let mut ids: Vec<u16> =
        COMMANDS.iter().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands)).map(|spec| spec.id).collect();
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
        (&["nosuch", "a", "b"], "ERR unknown command 'nosuch', with args beginning with: 'a' 'b' "),
        (&["CONFIG", "GET", "x"], "found config|get"),
        (&["config", "get"], "arity config|get"),
        (&["config", "set", "a", "b"], "unknown sub of config"),
        (&["config"], "arity config"),
        (&["client", "id"], "ERR unknown command 'client', with args beginning with: 'id' "),
        (&["restore-asking"], "arity restore-asking"),
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

#[test]
fn keys_of_commands_without_a_handler_here() {
    let keys = |line: &str| {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let spec = find_spec(args[0]).expect(line);
        let mut keys = crate::KeyVec::new();
        match crate::keys_of(spec, &args, &mut keys) {
            Ok(()) => {
                keys.iter().map(|key| String::from_utf8_lossy(args[key.index as usize])).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    };
    const INVALID: &str = "ERR Invalid arguments specified for command";
    for (line, expected) in [
        ("xread count 1 streams a b 0 0", "a b"),
        ("xread count 1", ""),
        ("zunionstore d 2 a b weights 1 2", "d a b"),
        ("zunionstore d 3 a b", INVALID),
        ("zunionstore d 0 a", INVALID),
        ("sort a by x store y store z", "a z"),
        ("georadius a 1 2 3 m store d storedist e", "a e"),
        ("eval script 2 a b c", "a b"),
        ("eval script 0", ""),
        ("eval script -1", INVALID),
        ("migrate host 1  0 1 auth keys keys a b", "a b"),
        ("migrate host 1 a 0 1", "a"),
        ("blpop a b 0", "a b"),
        ("publish channel message", ""),
    ] {
        assert_eq!(keys(line), expected, "{line}");
    }
}
