// SPDX-License-Identifier: BSD-3-Clause
//! bitop
use crate::registry::Row;

pub(crate) const TABLE: &[Row] = &[];
