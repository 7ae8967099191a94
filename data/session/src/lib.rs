//! pando-session
