//! What a program says when the system does not give it what its settings ask for.

use super::tools::*;
use tempfile::TempDir;

const PROXY: &str = env!("CARGO_BIN_EXE_reverse-proxy");

/// Memory for some stacks of 512 MiB. About half a stack is left when there is none for one more: a thread that has begun, and
/// lacks a few KiB, would abort the process. Arenas of libc would take an unknown part of it; that of the allocator is as two
/// stacks.
const MEMORY: &str = "export RUST_MIN_STACK=536870912 MALLOC_ARENA_MAX=1 && ulimit -v 7700000";

/// Runs the proxy after a command of the shell with these settings; what it says before it ends.
#[track_caller]
fn refused(limited: &str, settings: &str) -> String {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("conf.yaml"), settings).unwrap();
    let (listen, script) = (
        format!("unix:{}", at("s")),
        format!("{limited} && exec \"$0\" \"$@\""),
    );
    let args = ["-c", &script, PROXY, "--listen", &listen];
    let more = ["--upstream", "127.0.0.1:1", "--conf", &at("conf.yaml")];
    let mut proxy =
        Program::spawn_as_written("sh", &dir.path().join("s"), &[&args[..], &more].concat());
    assert_eq!(proxy.wait(), Some(1));
    proxy.rest_of_log()
}

#[test]
fn more_threads_than_there_can_be_are_refused_in_words() {
    let said = refused("ulimit -n 1000", "threads: 100000");
    let expected = "threads: 100000: expected a whole number from 0 to 65535";
    assert!(said.contains(expected), "{said}");
    // No files for their reactors, and no memory for their stacks.
    for (limited, work_stealing) in [("ulimit -n 60", false), (MEMORY, true)] {
        let said = refused(
            limited,
            &format!("threads: 2000\nwork_stealing: {work_stealing}\n"),
        );
        let expected = "threads: 2000: the system allows no more than ";
        assert!(said.contains(expected), "{said}");
        assert!(
            said.contains("ulimit -u") && said.contains("ulimit -n"),
            "{said}"
        );
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn an_address_that_is_taken_ends_the_program_in_words() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("s");
    // Free, but for its own first endpoint.
    let twice = format!("unix:{}", socket.display());
    let args = ["--listen", &twice, "--upstream", "127.0.0.1:1"];
    let mut proxy = Program::spawn(PROXY, &socket, &args);
    assert_eq!(proxy.wait(), Some(1));
    let said = proxy.rest_of_log();
    let expected = format!("cannot listen on {}: ", socket.display());
    assert_eq!(said.matches(&expected).count(), 1, "{said}");
    assert!(!said.contains("panicked"), "{said}");
}
