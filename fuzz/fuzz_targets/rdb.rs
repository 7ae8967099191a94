// SPDX-License-Identifier: BSD-3-Clause
//! A snapshot from a primary that lies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pando_formats::rdb::RdbReader;

fuzz_target!(|input: &[u8]| {
    let mut reader = RdbReader::new();
    for part in input.chunks(7) {
        reader.push(part);
        while let Ok(Some(_)) = reader.next() {}
    }
});
