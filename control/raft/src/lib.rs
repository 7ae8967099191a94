//! pando-raft
