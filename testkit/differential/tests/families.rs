// SPDX-License-Identifier: BSD-3-Clause
//! Generated commands of every family, in both protocols. `PANDO_DIFF_CASES=n` runs more sequences than CI does.

use pando_differential::families::FAMILIES;
use pando_differential::generate::sequence;
use pando_differential::run::Pair;

const COMMANDS_PER_SEQUENCE: usize = 200;

fn check_family(name: &str) {
    let cases = std::env::var("PANDO_DIFF_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(40_u64);
    let family = FAMILIES.iter().find(|family| family.name == name).expect("a family");
    for protocol in ["2", "3"] {
        let pair = Pair::start(protocol);
        for seed in 0..cases {
            pair.check(&format!("{name}, seed {seed}"), &sequence(family, seed, COMMANDS_PER_SEQUENCE));
        }
    }
}

#[test]
fn strings() {
    check_family("strings");
}

#[test]
fn bitmaps() {
    check_family("bitmaps");
}

#[test]
fn generic_keys() {
    check_family("generic");
}

#[test]
fn dumps() {
    check_family("dump");
}

#[test]
fn hashes() {
    check_family("hashes");
}

#[test]
fn times_of_hash_fields() {
    check_family("hash_expire");
}

#[test]
fn lists() {
    check_family("lists");
}

#[test]
fn streams() {
    check_family("streams");
}

#[test]
fn transactions() {
    check_family("transactions");
}

#[test]
fn sets() {
    check_family("sets");
}

#[test]
fn sort() {
    check_family("sort");
}

#[test]
fn zsets() {
    check_family("zsets");
}

#[test]
fn hyperloglog() {
    check_family("hyperloglog");
}

#[test]
fn geo() {
    check_family("geo");
}

#[test]
fn all_types_on_few_keys() {
    check_family("mixed");
}
