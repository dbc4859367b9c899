//! The greeting by which servers are told of a connection before it begins.

use crate::config::section::choice;

choice! {
    /// The versions of the PROXY protocol.
    pub enum ProxyVersion("a version of the PROXY protocol") {
        /// A line of text.
        V1 = "v1",
        /// Binary.
        V2 = "v2",
    }
}
