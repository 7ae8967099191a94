// SPDX-License-Identifier: BSD-3-Clause
//! ranges
use crate::registry::Row;

pub(crate) const TABLE: &[Row] = &[];
