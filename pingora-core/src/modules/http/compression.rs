//! Response compression as a module.
