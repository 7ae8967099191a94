//! pando-keyspace
