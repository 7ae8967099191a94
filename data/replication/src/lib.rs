//! pando-replication
