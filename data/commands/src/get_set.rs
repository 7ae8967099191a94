// SPDX-License-Identifier: BSD-3-Clause
//! get_set
use crate::registry::Row;

pub(crate) const TABLE: &[Row] = &[];
