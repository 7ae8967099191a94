// SPDX-License-Identifier: BSD-3-Clause
//! The project's own commands: one per intent, and checking never edits.
//!
//! `cargo xtask tidy | peers | test | sim | verify | fix`; see [`HELP`].

mod peers;
mod sim;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo xtask COMMAND

  tidy      check what compilers do not: crate directions, paths named in the docs, file heads
  peers     install the servers and client libraries that tests compare with, into .cache/peers
  test      build the binary, install the peers, run every test        (extra words go to cargo test)
  sim       run seeds of the simulation on all cores: --seeds N --from S --minutes M --jobs J
  verify    formatting, clippy with warnings denied, tidy, test: what CI runs
  fix       format, and apply clippy's suggestions
";

/// The workspace's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_path_buf()
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let result = match command.as_str() {
        "tidy" => tidy::check(&root()),
        "peers" => peers::install(&root()),
        "test" => test(&rest),
        "sim" => sim::run(&root(), &rest),
        "verify" => verify(),
        "fix" => fix(),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask {command}: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Runs cargo in the workspace's root and passes its output through.
fn cargo(args: &[&str]) -> Result<(), String> {
    println!("+ cargo {}", args.join(" "));
    let status = Command::new(env!("CARGO")).args(args).current_dir(root()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo {}: {status}", args.join(" "))),
        Err(error) => Err(error.to_string()),
    }
}

fn test(extra: &[String]) -> Result<(), String> {
    peers::install(&root())?;
    cargo(&["build", "--package", "pando"])?;
    let mut args = vec!["test", "--workspace", "--no-fail-fast"];
    args.extend(extra.iter().map(String::as_str));
    cargo(&args)
}

fn verify() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"])?;
    tidy::check(&root())?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    test(&[])
}

fn fix() -> Result<(), String> {
    cargo(&["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"])?;
    cargo(&["fmt", "--all"])
}
