//! pando-values
