// SPDX-License-Identifier: BSD-3-Clause
//! scan
use crate::registry::Row;

pub(crate) const TABLE: &[Row] = &[];
