//! HTTP modules.

pub mod compression;
pub mod grpc_web;
