//! pando-server
