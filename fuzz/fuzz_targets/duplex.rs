//! An exchange without sockets, as a list of operations: no byte is lost, out of its place or sent twice, nothing follows
//! an end, what waits is bounded, and no wake-up is lost. The first two bytes are the setup, and each two more an
//! operation: what it is, and how much.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| pingora_proxy::fuzzing::duplex(script));
