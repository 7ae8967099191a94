// SPDX-License-Identifier: BSD-3-Clause
//! When a planned failover is acknowledged, the new primary has every write that the former one has taken.

use super::{Fact, Invariant, Scene};

/// See the head of this file.
pub struct HandoverKeeps;

impl Invariant for HandoverKeeps {
    fn name(&self) -> &'static str {
        "a planned failover loses nothing"
    }

    fn check(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        for fact in scene.facts {
            let Fact::HandedOver { to, former, len, sum } = fact else { continue };
            let Some(process) = scene.seen.get(*to).filter(|process| process.is_running) else { continue };
            let log = process.data.log();
            if log.sum(*len) != Some(*sum) {
                let has = log.len();
                return Err(format!("host {former} took {len} writes, host {to} does not have all ({has})"));
            }
        }
        Ok(())
    }
}
