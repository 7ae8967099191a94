// SPDX-License-Identifier: BSD-3-Clause
//! Checks that no compiler makes: which crate may use which, that the paths which the docs name exist, file heads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Lines above which a file must be on the list of [`LONG_FILES`].
const LINES_MAX: usize = 800;
/// Files that are longer for a reason. The list may only shrink.
const LONG_FILES: &[&str] = &[];
/// An import that hides where names come from.
const GLOB: &str = concat!("use crate", "::*;");
/// The heading in docs/architecture.md below which the table of directions stands.
const DIRECTIONS: &str = "## Which crate may use which";

/// Runs every check and prints all findings.
///
/// # Errors
/// The number of findings.
pub fn check(root: &Path) -> Result<(), String> {
    let mut findings = Vec::new();
    let map = std::fs::read_to_string(root.join("docs/architecture.md")).map_err(|error| error.to_string())?;
    check_directions(root, &map, &mut findings)?;
    for doc in documents(root) {
        check_paths(root, &doc, &mut findings);
    }
    for file in tracked(root, "*.rs")? {
        check_file(root, &file, &mut findings);
    }
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    if findings.is_empty() { Ok(()) } else { Err(format!("{} findings", findings.len())) }
}

/// Compares the dependencies between our crates with the table in docs/architecture.md, in both directions: an edge that is
/// not allowed is a finding, and so is an allowed one that nobody uses.
fn check_directions(root: &Path, map: &str, findings: &mut Vec<String>) -> Result<(), String> {
    let allowed = allowed_edges(map);
    if allowed.is_empty() {
        return Err(format!("docs/architecture.md: no table below `{DIRECTIONS}`"));
    }
    let actual = actual_edges(root)?;
    for (krate, uses) in &actual {
        let Some(may_use) = allowed.get(krate) else {
            findings.push(format!("docs/architecture.md: the crate {krate} is missing from the table of directions"));
            continue;
        };
        for used in uses.difference(may_use) {
            findings.push(format!("{krate} uses {used}, which docs/architecture.md does not allow"));
        }
        for unused in may_use.difference(uses) {
            findings.push(format!("docs/architecture.md allows {krate} to use {unused}, but it does not"));
        }
    }
    for krate in allowed.keys().filter(|krate| !actual.contains_key(*krate)) {
        findings.push(format!("docs/architecture.md: there is no crate {krate}"));
    }
    Ok(())
}

/// Rows of the form "| `pando-x` | `pando-a` `pando-b` |".
fn allowed_edges(map: &str) -> BTreeMap<String, BTreeSet<String>> {
    let table = map.split_once(DIRECTIONS).map_or("", |(_, rest)| rest);
    let table = table.split("\n## ").next().unwrap_or_default();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.filter_map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(names);
        let krate = cells.next()?.pop_first()?;
        Some((krate, cells.next().unwrap_or_default()))
    })
    .collect()
}

/// The words between backquotes.
fn names(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn actual_edges(root: &Path) -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .map_err(|error| error.to_string())?;
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let ours: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let edges = packages.iter().filter_map(|package| {
        let uses = package["dependencies"].as_array()?.iter();
        // Tests of a lower crate may use the test kit; only what ships has a direction.
        let ships = uses.filter(|dependency| dependency["kind"].as_str() != Some("dev"));
        let names = ships.filter_map(|dependency| dependency["name"].as_str());
        let uses = names.filter(|name| ours.contains(name)).map(str::to_owned).collect();
        Some((package["name"].as_str()?.to_owned(), uses))
    });
    Ok(edges.collect())
}

fn documents(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// Words in backquotes that look like a path of this project must exist.
fn check_paths(root: &Path, doc: &Path, findings: &mut Vec<String>) {
    const TOPS: [&str; 12] = [
        "base/", "data/", "control/", "apps/", "testkit/", "bench/", "xtask/", "fuzz/", "docs/", ".ci/", ".cargo/",
        "deploy/",
    ];
    let Ok(text) = std::fs::read_to_string(doc) else {
        findings.push(format!("{} is missing", doc.display()));
        return;
    };
    for word in text.split('`').skip(1).step_by(2) {
        let path = word.split(['#', ':', '*']).next().unwrap_or_default();
        let is_path = TOPS.iter().any(|top| path.starts_with(top)) && !path.contains([' ', '{', '<', '…']);
        if is_path && !root.join(path).exists() {
            findings.push(format!("{} names {path}, which does not exist", doc.display()));
        }
    }
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
        let target = doc.parent().unwrap_or(root).join(link.split('#').next().unwrap_or_default());
        if !target.exists() {
            findings.push(format!("{} links to {link}, which does not exist", doc.display()));
        }
    }
}

fn tracked(root: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", pattern])
        .current_dir(root)
        .output()
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect())
}

fn check_file(root: &Path, file: &Path, findings: &mut Vec<String>) {
    let Ok(text) = std::fs::read_to_string(root.join(file)) else { return };
    let name = file.display();
    let mut lines = text.lines();
    if lines.next() != Some("// SPDX-License-Identifier: BSD-3-Clause") {
        findings.push(format!("{name} does not begin with its SPDX line"));
    }
    if !lines.next().is_some_and(|line| line.starts_with("//!")) {
        findings.push(format!("{name} does not say in `//!` what it is"));
    }
    let count = text.lines().count();
    if count > LINES_MAX && !LONG_FILES.contains(&name.to_string().as_str()) {
        findings.push(format!("{name} has {count} lines: more than one responsibility?"));
    }
    if text.lines().any(|line| line.trim() == GLOB) {
        findings.push(format!("{name} imports crate::*: a reader cannot tell where a name comes from"));
    }
}
