//! pando-procs
