//! gRPC-web to gRPC.
