// SPDX-License-Identifier: BSD-3-Clause
//! bitfield
use crate::registry::Row;

pub(crate) const TABLE: &[Row] = &[];
