// SPDX-License-Identifier: BSD-3-Clause
//! object
use crate::registry::Row;

pub(crate) const TABLE: &[Row] = &[];
