// SPDX-License-Identifier: BSD-3-Clause
//! A log file with anything in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pando_formats::aof::AofReader;

fuzz_target!(|input: &[u8]| {
    let mut reader = AofReader::new();
    for part in input.chunks(7) {
        reader.push(part);
        while let Ok(Some(_)) = reader.next() {}
    }
    let _ = reader.tail();
});
