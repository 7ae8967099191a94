//! pando-liveness
