// SPDX-License-Identifier: BSD-3-Clause
//! counters
use crate::registry::Row;

pub(crate) const TABLE: &[Row] = &[];
