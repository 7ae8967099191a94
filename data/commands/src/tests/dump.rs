// SPDX-License-Identifier: BSD-3-Clause
//! DUMP and RESTORE: replies in the reference server's order of checks, log records and events.

use crate::testing::Run;

/// DUMP of the string "bar", read off valkey-server 9.1.2.
const BAR: &str = r#""\x00\x03bar\x50\x00\x29\x94\x80\xf1\x70\x34\x9a\xe3""#;

#[test]
fn what_restore_refuses_in_its_order() {
    let mut run = Run::new();
    run.run("SET there 1");
    for (line, expected) in [
        ("RESTORE there x y BOGUS", "-ERR syntax error"),
        ("RESTORE there x y IDLETIME", "-ERR syntax error"),
        ("RESTORE there x y IDLETIME 1 FREQ 1", "-ERR syntax error"),
        ("RESTORE there x y IDLETIME z", "-ERR value is not an integer or out of range"),
        ("RESTORE there x y IDLETIME -1", "-ERR Invalid IDLETIME value, must be >= 0"),
        ("RESTORE there x y FREQ 256", "-ERR Invalid FREQ value, must be >= 0 and <= 255"),
        ("RESTORE there x y", "-BUSYKEY Target key name already exists."),
        ("RESTORE there x y REPLACE", "-ERR value is not an integer or out of range"),
        ("RESTORE k -1 y", "-ERR Invalid TTL value, must be >= 0"),
        ("RESTORE k 0 y", "-ERR DUMP payload version or checksum are wrong"),
        (
            r#"RESTORE k 0 "\x00\x03bar\x50\x00\x29\x94\x80\xf1\x70\x34\x9a\xe4""#,
            "-ERR DUMP payload version or checksum are wrong",
        ),
        ("DUMP nosuch", "nil"),
    ] {
        assert_eq!(run.run(line), expected, "{line}");
    }
}

#[test]
fn what_restore_logs() {
    let mut run = Run::new();
    let logged = r"\x00\x03barP\x00)\x94\x80\xf1p4\x9a\xe3";
    for (line, log, events) in [
        (format!("RESTORE a 0 {BAR}"), format!("RESTORE a 0 {logged}"), "restore a"),
        (format!("RESTORE b 1000 {BAR}"), format!("RESTORE b 1700000001000 {logged} ABSTTL"), "restore b"),
        (
            format!("RESTORE c 1700000005000 {BAR} ABSTTL"),
            format!("RESTORE c 1700000005000 {logged} ABSTTL"),
            "restore c",
        ),
        (format!("RESTORE d 5 {BAR} ABSTTL"), String::new(), ""),
        (format!("RESTORE a 5 {BAR} ABSTTL REPLACE"), "UNLINK a".into(), "del a"),
        (
            format!("RESTORE b 0 {BAR} REPLACE IDLETIME 1000"),
            format!("RESTORE b 0 {logged} REPLACE IDLETIME 1000"),
            "restore b",
        ),
    ] {
        assert_eq!(run.run(&line), "OK", "{line}");
        assert_eq!((run.log(), run.events().as_str()), (log, events), "{line}");
    }
    assert_eq!(run.run("GET b"), "\"bar\"");
    assert_eq!(run.run("PTTL b"), ":-1");
    assert_eq!(run.run("PTTL c"), ":5000");
    run.run(&format!("RESTORE idle 0 {BAR} IDLETIME 1000"));
    assert_eq!(run.run("OBJECT IDLETIME idle"), ":1000");
}
