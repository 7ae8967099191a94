//! pando-topology
