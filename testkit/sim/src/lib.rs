//! pando-sim
