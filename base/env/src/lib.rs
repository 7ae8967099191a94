//! pando-env
