//! Servers: how they are spoken to, how they fare, and who gets a request.

mod balancing;
mod connections;
mod health;
mod limits;
pub mod origins;
mod protocols;
mod proxy_protocol;
mod queue;
mod retries;
