//! pando-resp
