// SPDX-License-Identifier: BSD-3-Clause
//! keys
use crate::registry::Row;

pub(crate) const TABLE: &[Row] = &[];
