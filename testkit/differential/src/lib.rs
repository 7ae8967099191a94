//! pando-differential
