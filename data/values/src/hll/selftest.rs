// SPDX-License-Identifier: BSD-3-Clause
//! PFSELFTEST: registers hold what was written to them, both forms agree, and estimates are as good as they should be.

use super::{HEAD, HllForm, REGISTERS, Registers, add, count, dense, empty, form_of, make_dense};
use crate::random::{random, random_below};

const CYCLES: usize = 1000;
const ELEMENTS: u64 = 10_000_000;
/// Errors are allowed to be this many times the expected one.
const TOLERANCE: f64 = 6.0;

/// Runs the test, which takes a second or more. The error tells what failed.
pub fn self_test(sparse_max: usize) -> Result<(), String> {
    registers_hold()?;
    estimates_hold(sparse_max)
}

fn registers_hold() -> Result<(), String> {
    let mut bytes = vec![0; dense::BYTES];
    let mut written = [0; REGISTERS];
    for _ in 0..CYCLES {
        written.iter_mut().for_each(|rank| *rank = random_below(64) as u8);
        dense::write(&mut bytes, &written);
        let mut read = Registers::default();
        dense::merge(&bytes, &mut read.ranks);
        let wrong = written.iter().zip(&read.ranks).position(|(written, read)| written != read);
        if let Some(register) = wrong {
            let (written, read) = (written[register], read.ranks[register]);
            return Err(format!("TESTFAILED Register {register} should be {written} but is {read}"));
        }
    }
    Ok(())
}

fn estimates_hold(sparse_max: usize) -> Result<(), String> {
    let corrupted = |_| "TESTFAILED corrupted".to_owned();
    let (mut sparse, mut dense) = (empty(), empty());
    make_dense(&mut dense).map_err(corrupted)?;
    let error_expected = 1.04 / (REGISTERS as f64).sqrt();
    let (mut checkpoint, seed) = (1, random());
    for number in 1..=ELEMENTS {
        let element = (number ^ seed).to_le_bytes();
        let (register, rank) = super::place_of(&element);
        dense::raise(&mut dense[HEAD..], register, rank);
        add(&mut sparse, &element, sparse_max).map_err(corrupted)?;
        if number != checkpoint {
            continue;
        }
        if number < (sparse_max / 2) as u64 && form_of(&sparse) != Ok(HllForm::Sparse) {
            return Err("TESTFAILED sparse encoding not used".to_owned());
        }
        let estimate = count(&dense).map_err(corrupted)?;
        if count(&sparse) != Ok(estimate) {
            return Err("TESTFAILED dense/sparse disagree".to_owned());
        }
        // Ten elements collide more often than the bound for their number allows.
        let error_max = if number == 10 { 1 } else { (error_expected * TOLERANCE * number as f64).ceil() as u64 };
        let error = estimate.abs_diff(number);
        if error > error_max {
            return Err(format!("TESTFAILED Too big error. card:{number} abserr:{error}"));
        }
        checkpoint *= 10;
    }
    Ok(())
}
