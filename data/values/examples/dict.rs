// SPDX-License-Identifier: BSD-3-Clause
//! Times and weighs a `Dict` of a million entries: `cargo run --release -p pando-values --example dict`.

use pando_values::{FieldDict, KeyDict, random_below};
use std::hint::black_box;

/// CPU time of this thread, nanoseconds: other processes do not count.
fn cpu_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN)
}

const COUNT: usize = 1_000_000;

fn main() {
    for width in [8, 32] {
        let keys: Vec<String> = (0..COUNT).map(|n| format!("{n:0width$}")).collect();
        let order: Vec<usize> = (0..COUNT).map(|_| random_below(COUNT)).collect();
        let timed = |what: &str, run: &mut dyn FnMut()| {
            let start = cpu_ns();
            run();
            println!("{width:4} {what:<10} {:6.1} ns", (cpu_ns() - start) / COUNT as f64);
        };
        let mut dict = KeyDict::new();
        timed("insert", &mut || keys.iter().for_each(|key| assert!(dict.insert_new(key.as_bytes(), &[]))));
        println!("{width:4} bytes above its own: {:.2}", dict.heap_bytes() as f64 / COUNT as f64 - width as f64);
        timed("found", &mut || order.iter().for_each(|&n| assert!(dict.contains(keys[n].as_bytes()))));
        timed("not found", &mut || order.iter().for_each(|n| assert!(!dict.contains(&n.to_ne_bytes()[..7]))));
        timed("iterate", &mut || assert_eq!(dict.iter().count(), COUNT));
        timed("random", &mut || {
            (0..COUNT).for_each(|_| {
                black_box(dict.random());
            })
        });
        let copy = dict.clone();
        timed("clone", &mut || drop(black_box(dict.clone())));
        timed("remove", &mut || keys.iter().for_each(|key| assert!(dict.remove(key.as_bytes()))));
        assert_eq!(copy.len(), COUNT);
        let mut fields = FieldDict::new();
        timed("hset new", &mut || {
            keys.iter().for_each(|key| assert!(!fields.insert(key.as_bytes(), key.as_bytes())));
        });
        println!(
            "{width:4} bytes above its own: {:.2}",
            fields.heap_bytes() as f64 / COUNT as f64 - 2.0 * width as f64
        );
        timed("hset same", &mut || {
            order.iter().for_each(|&n| assert!(fields.insert(keys[n].as_bytes(), keys[0].as_bytes())));
        });
        timed("hset other", &mut || {
            order.iter().for_each(|&n| assert!(fields.insert(keys[n].as_bytes(), &keys[n].as_bytes()[n % 8..])));
        });
    }
}
