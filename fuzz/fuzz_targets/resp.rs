// SPDX-License-Identifier: BSD-3-Clause
//! Requests as clients send them: whole, then cut in two at the first byte's position; both must give the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pando_resp::{ArgVec, Limits, Parser, Step};

/// All requests in `input`, and whether the end was a protocol error.
fn requests(parts: &[&[u8]]) -> (Vec<Vec<Vec<u8>>>, bool) {
    let (mut parser, limits) = (Parser::new(), Limits::default());
    let (mut found, mut pending) = (Vec::new(), Vec::new());
    for part in parts {
        pending.extend_from_slice(part);
        loop {
            let mut argv: ArgVec<'_> = ArgVec::new();
            let consumed = match parser.parse(&pending, &limits, &mut argv) {
                Ok(Step::Complete { consumed }) => {
                    found.push(argv.iter().map(|word| word.to_vec()).collect());
                    consumed
                }
                Ok(Step::Owned { consumed, args }) => {
                    found.push(args);
                    consumed
                }
                Ok(Step::Empty { consumed }) => consumed,
                Ok(Step::Incomplete { .. }) => break,
                Err(_) => return (found, true),
            };
            assert!(consumed > 0 && consumed <= pending.len());
            pending.drain(..consumed);
        }
    }
    (found, false)
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    let cut = usize::from(first).min(rest.len());
    assert_eq!(requests(&[rest]), requests(&[&rest[..cut], &rest[cut..]]));
    // Replies, as the tools read them.
    let _ = pando_resp::decode::decode(rest);
});
