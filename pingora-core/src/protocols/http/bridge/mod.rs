//! Translations between HTTP dialects.

pub mod grpc_web;
