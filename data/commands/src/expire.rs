// SPDX-License-Identifier: BSD-3-Clause
//! expire
use crate::registry::Row;

pub(crate) const TABLE: &[Row] = &[];
