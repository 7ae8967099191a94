// SPDX-License-Identifier: BSD-3-Clause
//! Tests of the whole system with real processes and stock clients; see the folder `tests`.
