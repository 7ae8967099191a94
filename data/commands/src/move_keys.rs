// SPDX-License-Identifier: BSD-3-Clause
//! move_keys
use crate::registry::Row;

pub(crate) const TABLE: &[Row] = &[];
