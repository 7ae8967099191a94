//! pando-root-state
