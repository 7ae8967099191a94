// SPDX-License-Identifier: BSD-3-Clause
//! set
use crate::registry::Row;

pub(crate) const TABLE: &[Row] = &[];
