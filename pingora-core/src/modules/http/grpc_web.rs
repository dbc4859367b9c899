//! The gRPC-web bridge as a module.
