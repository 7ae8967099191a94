//! pando-wire
