//! pando-agent
