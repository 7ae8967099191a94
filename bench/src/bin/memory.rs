// SPDX-License-Identifier: BSD-3-Clause
//! Bytes per key beyond key and value: 16-byte keys, 80-byte values, by resident memory, beside Valkey 9.1.2 and 8.x.

use std::process::ExitCode;

use clap::Parser;
use pando_bench::{load, table};
use pando_procs::client::info_field;
use pando_procs::{Node, Software, peers};

#[derive(Parser)]
struct Options {
    #[arg(long, default_value_t = 5_000_000)]
    keys: u64,
}

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("bench memory: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), String> {
    let mut rows = Vec::new();
    for ttl_s in [None, Some(86_400)] {
        for (name, software, args) in [
            ("Pando", Software::Pando, &[][..]),
            ("Pando, cluster mode", Software::Pando, &["--cluster-enabled", "yes"][..]),
            ("Valkey 9.1.2", Software::Valkey, &[][..]),
            ("Valkey 8.1", Software::Valkey8, &[][..]),
        ] {
            if software == Software::Valkey8 && peers::peer("valkey-server-8").is_none() {
                continue;
            }
            let suffix = if ttl_s.is_some() { ", with TTL" } else { "" };
            rows.push(one(&format!("{name}{suffix}"), software, args, options.keys, ttl_s)?);
        }
    }
    println!("{} keys of 16 bytes with 80-byte values; bytes per key beyond those 96", options.keys);
    table::print(&["server", "RSS", "used_memory"], &rows);
    Ok(())
}

fn one(name: &str, software: Software, args: &[&str], keys: u64, ttl_s: Option<u64>) -> Result<Vec<String>, String> {
    let node = Node::start(software, args)?;
    let mut client = node.client();
    if args.contains(&"--cluster-enabled") {
        let reply = client.text(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).map_err(|error| error.to_string())?;
        if reply != "OK" {
            return Err(reply);
        }
        pando_procs::eventually(std::time::Duration::from_secs(10), "slots served", || {
            let reply = client.text(&["SET", "a", "b"]).map_err(|error| error.to_string())?;
            if reply == "OK" { Ok(()) } else { Err(reply) }
        })?;
        client.text(&["DEL", "a"]).map_err(|error| error.to_string())?;
    }
    let mut used = || -> Result<f64, String> {
        let info = client.text(&["INFO", "memory"]).map_err(|error| error.to_string())?;
        Ok(info_field(&info, "used_memory").and_then(|text| text.parse().ok()).unwrap_or(f64::NAN))
    };
    let (rss_before, used_before) = (node.rss_bytes() as f64, used()?);
    load::fill(&node, keys, ttl_s).map_err(|error| error.to_string())?;
    let per_key = |bytes: f64| format!("{:.1}", bytes / keys as f64 - 96.0);
    Ok(vec![name.to_owned(), per_key(node.rss_bytes() as f64 - rss_before), per_key(used()? - used_before)])
}
