// SPDX-License-Identifier: BSD-3-Clause
//! `pando server`: hands its arguments to the server as they are, because their rules are Valkey's.

use clap::Args;
use std::ffi::OsString;
use std::process::ExitCode;

/// Everything behind `server`.
#[derive(Args)]
pub(crate) struct ServerArgs {
    /// Configuration file, then directives.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) args: Vec<OsString>,
}

/// Runs until the server ends.
pub(crate) fn run(args: &ServerArgs) -> ExitCode {
    pando_server::enable_allocator_stats();
    let args: Vec<String> = args.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    pando_server::main(&args)
}
