//! Servers: how they are spoken to, how they fare, and who gets a request.

mod health;
mod origins;
mod protocols;
mod retries;
