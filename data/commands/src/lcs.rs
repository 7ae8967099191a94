// SPDX-License-Identifier: BSD-3-Clause
//! lcs
use crate::registry::Row;

pub(crate) const TABLE: &[Row] = &[];
