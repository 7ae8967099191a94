// SPDX-License-Identifier: BSD-3-Clause
//! databases
use crate::registry::Row;

pub(crate) const TABLE: &[Row] = &[];
