//! pando-formats
