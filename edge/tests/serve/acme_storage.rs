//! Automatic certificates with a storage that does not take them.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::acme::{get, site, Addresses, Pebble};
use super::tools::*;

#[test]
fn a_storage_that_cannot_be_written_is_shown_and_requests_flow() {
    let (addresses, storage) = (Addresses::new(), TempDir::new().unwrap());
    let file = storage.path().join("file");
    std::fs::File::create(&file)
        .unwrap()
        .write_all(b"x")
        .unwrap();
    let pebble = Pebble::started(&addresses);
    let admin = free();
    let text = format!(
        "{}admin: {admin}\n{}sites:\n{}",
        addresses.listen(),
        pebble.settings(&file, ""),
        site("a.test")
    );
    let mut edge = Edge::start_whole(addresses.plain, &text);
    edge.wait_for_log("no certificate for a.test");
    assert_eq!(edge.get("a.test", "/").body, "a.test");
    eventually("it can be asked", || TcpStream::connect(admin).is_ok());
    let ask = |path| {
        edge.connect_to(admin)
            .ask("GET", &admin.to_string(), path, "")
    };
    let status = ask("/api/status").body;
    assert!(status.contains("cannot make the folder"), "{status}");
    let metrics = ask("/metrics").body;
    assert!(
        metrics.contains("edge_certificate_failing{site=\"a.test\"} 1\n"),
        "{metrics}"
    );
    // A handshake for the host is refused, and counted.
    assert_eq!(
        get(&pebble.authority.file(), "a.test", addresses.secure),
        None
    );
    let refused = "edge_tls_handshake_failures_total{kind=\"no_certificate\"} 1\n";
    eventually("it is counted", || ask("/metrics").body.contains(refused));
    // It is tried again when there is a folder to be made.
    std::fs::remove_file(&file).unwrap();
    edge.wait_for_log("a certificate for a.test was issued");
    let served = get(&pebble.root(), "a.test", addresses.secure);
    assert_eq!(served.as_deref(), Some("a.test"));
}

/// Lets a process write files again.
fn make_room(edge: &Edge) {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the kernel reads the one struct, and writes none.
    #[allow(unsafe_code)]
    let done = unsafe {
        libc::prlimit(
            edge.id() as i32,
            libc::RLIMIT_FSIZE,
            &raw const limit,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(done, 0);
}

/// Asks the admin interface.
fn ask(edge: &Edge, admin: SocketAddr, path: &str) -> String {
    let mut client = edge.connect_to(admin);
    client.ask("GET", &admin.to_string(), path, "").body
}

fn files(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// A limit of the size of files stands for a disk without room: files can be made, and nothing can be written into them.
#[test]
fn a_full_disk_keeps_no_certificate_from_serving_and_has_it_when_there_is_room() {
    let (addresses, storage) = (Addresses::new(), TempDir::new().unwrap());
    let mut pebble = Pebble::started(&addresses);
    let admin = free();
    let text = format!(
        "{}admin: {admin}\n{}sites:\n{}",
        addresses.listen(),
        pebble.settings(storage.path(), ", challenges: http-01"),
        site("a.test")
    );
    let mut command = Command::new("sh");
    let script = "trap '' XFSZ; ulimit -S -f 0; exec \"$0\" \"$@\"";
    command.args(["-c", script, BINARY]);
    let mut edge = Edge::start_by(command, addresses.plain, &text);
    edge.wait_for_log("is lost with this process");
    edge.wait_for_log("only this process answers the challenge for a.test");
    edge.wait_for_log("the certificate for a.test is lost with this process");
    let root = pebble.root();
    let served = || get(&root, "a.test", addresses.secure);
    assert_eq!(served().as_deref(), Some("a.test"));
    assert_eq!(edge.get("a.test", "/").body, "a.test");
    let folder = pebble.folder(storage.path());
    assert_eq!(
        files(&folder.join("certificates")),
        [""; 0],
        "nothing is half there"
    );
    let status = ask(&edge, admin, "/api/status");
    assert!(status.contains("not kept for another start"), "{status}");
    let failing = |state: u8| format!("edge_certificate_failing{{site=\"a.test\"}} {state}\n");
    let metrics = ask(&edge, admin, "/metrics");
    assert!(metrics.contains(&failing(1)), "{metrics}");
    make_room(&edge);
    eventually("it is kept", || {
        files(&folder.join("certificates")) == ["a.test.pem"]
            && folder.join("account.json").exists()
    });
    eventually("nothing fails any more", || {
        ask(&edge, admin, "/metrics").contains(&failing(0))
    });
    let status = ask(&edge, admin, "/api/status");
    assert!(!status.contains("not kept"), "{status}");
    assert_eq!(served().as_deref(), Some("a.test"));
    drop(edge);
    // The next start has it without the authority.
    pebble.stop();
    let _edge = Edge::start_whole(addresses.plain, &text);
    assert_eq!(served().as_deref(), Some("a.test"));
}
