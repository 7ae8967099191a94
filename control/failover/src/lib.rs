//! pando-failover
