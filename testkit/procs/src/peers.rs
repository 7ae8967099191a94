// SPDX-License-Identifier: BSD-3-Clause
//! Where the programs under test and their peers are found.
//!
//! `cargo xtask peers` installs the peers into `.cache/peers`; `PANDO_PEERS` names another folder. `PANDO_BIN` names the
//! pando binary; without it the newest of this workspace's own builds is taken.

use std::path::{Path, PathBuf};

/// The workspace's root folder.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("testkit/procs lies two folders below the root").to_path_buf()
}

/// A peer's file, if it is installed.
pub fn peer(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("PANDO_PEERS").map_or_else(|| workspace().join(".cache/peers"), PathBuf::from);
    let path = folder.join(name);
    path.exists().then_some(path)
}

/// A peer's file; tests that cannot run without it fail with the command that installs it.
///
/// # Panics
/// When the peer is not installed.
pub fn require_peer(name: &str) -> PathBuf {
    peer(name).unwrap_or_else(|| panic!("{name} is not installed: run `cargo xtask peers`"))
}

/// The pando binary.
///
/// # Panics
/// When none was built.
pub fn pando() -> PathBuf {
    if let Some(path) = std::env::var_os("PANDO_BIN") {
        return PathBuf::from(path);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let built = ["debug", "release", "dist"].iter().map(|profile| target.join(profile).join("pando"));
    let age = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
    built
        .filter(|path| path.exists())
        .max_by_key(age)
        .expect("the pando binary is not built: run `cargo build -p pando` (cargo xtask test does it)")
}
