//! pando-commands
