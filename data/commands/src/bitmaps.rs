// SPDX-License-Identifier: BSD-3-Clause
//! bitmaps
use crate::registry::Row;

pub(crate) const TABLE: &[Row] = &[];
