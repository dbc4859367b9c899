//! HTTP/1.1 without I/O (RFC 9112).
//!
//! Bytes go in, messages come out, and the other way round: no socket, no runtime, no clock. Every
//! rule about where a message begins and ends is in this module, once, for both roles:
//!
//! | module | decides |
//! |---|---|
//! | [`head`] | where a head ends, and what it says |
//! | `empty_line` | where CR LF CR LF is |
//! | `grammar` | what may stand on the lines of a head |
//! | [`framing`] | how long the body is, and whether the connection may persist |
//! | [`decode`] | bytes to body |
//! | [`encode`] | body to bytes |
//! | [`state`] | what each direction of a connection is doing, hence whether it can be used again |
//! | [`refusal`] | what is wrong with a message, and the status that says so |
//! | [`out`] | bytes on their way out, gathered for one system call |

pub mod decode;
mod empty_line;
pub mod encode;
pub mod framing;
mod grammar;
pub mod head;
pub mod out;
pub mod refusal;
pub mod state;

pub use refusal::Refusal;

#[cfg(test)]
mod tests;
