// SPDX-License-Identifier: BSD-3-Clause
//! Cluster mode: the CLUSTER command family, answered from the view of the cluster that sessions use. How the view is
//! agreed on is the agent's business.

pub(crate) mod commands;
