use std::collections::HashSet;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use super::*;

/// A directory of the test's own, removed at its end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("fds-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn patience() -> Patience {
    Patience {
        retries: 3000,
        pause: Duration::from_millis(10),
    }
}

fn listeners(n: usize) -> Vec<TcpListener> {
    (0..n)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect()
}

fn inode(fd: RawFd) -> (u64, u64) {
    let meta = std::fs::metadata(format!("/proc/self/fd/{fd}")).unwrap();
    (meta.dev(), meta.ino())
}

/// Takes received descriptors, so that they are closed.
#[allow(unsafe_code)]
fn owned(fds: &Fds) -> Vec<OwnedFd> {
    let (_, raw) = fds.serialize();
    raw.into_iter()
        // SAFETY: each was just received and belongs to nobody.
        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
        .collect()
}

/// Hands `fds` over a real socket at `path` to another table.
fn hand_over(fds: &Fds, path: &str) -> (nix::Result<Sent>, nix::Result<Fds>) {
    std::thread::scope(|threads| {
        let receiver = threads.spawn(|| {
            let mut received = Fds::new();
            received
                .receive(path, &patience(), &Trust::default())
                .map(|()| received)
        });
        let sent = fds.send(path, &patience(), &Trust::default());
        (sent, receiver.join().unwrap())
    })
}

fn table(sockets: &[TcpListener]) -> Fds {
    let mut fds = Fds::new();
    for (i, socket) in sockets.iter().enumerate() {
        fds.add(format!("127.0.0.{}:80", i + 1), socket.as_raw_fd());
    }
    fds
}

#[test]
fn a_table_of_sockets() {
    let mut fds = Fds::new();
    assert!(fds.is_empty());
    fds.add("b".into(), 20);
    fds.deserialize(vec!["a".into(), "c".into()], vec![10, 30]);
    assert_eq!(fds.get("a"), Some(&10));
    assert_eq!(fds.get("d"), None);
    let names = ["a", "b", "c"].map(String::from).to_vec();
    assert_eq!(fds.serialize(), (names, vec![10, 20, 30]));
}

#[test]
fn a_socket_has_one_owner() {
    let mut fds = Fds::new();
    assert!(fds.claim("a").unwrap().is_empty());
    let raw = listeners(1).remove(0).into_raw_fd();
    fds.deserialize(vec!["a".into()], vec![raw]);
    let owner = fds.claim("a").unwrap();
    assert_eq!(owner[0].as_raw_fd(), raw);
    assert!(fds.claim("a").unwrap().is_empty());
    let other = raw + 1;
    fds.add_owned("a", other);
    assert_eq!(fds.get("a"), Some(&raw));
    fds.remove("a", other);
    assert_eq!(fds.get("a"), Some(&raw));
    fds.remove("a", raw);
    assert!(fds.is_empty());
    fds.add_owned("a", other);
    assert!(fds.claim("a").unwrap().is_empty());
    assert_eq!(fds.close_unclaimed(&HashSet::new()), Vec::<String>::new());
}

#[test]
fn unclaimed_sockets_are_closed() {
    // At an address that no other test has: nobody else is to listen where one was closed.
    let sockets = [(); 3].map(|()| TcpListener::bind("127.67.0.1:0").unwrap());
    let addrs: Vec<_> = sockets.iter().map(|s| s.local_addr().unwrap()).collect();
    let mut fds = Fds::new();
    let raw = sockets.into_iter().map(IntoRawFd::into_raw_fd).collect();
    fds.deserialize(["a", "b", "c"].map(String::from).to_vec(), raw);
    let claimed = fds.claim("c").unwrap();
    assert_eq!(claimed.len(), 1);
    let keep = HashSet::from(["a".to_owned()]);
    assert_eq!(fds.close_unclaimed(&keep), ["b"]);
    assert!(std::net::TcpStream::connect(addrs[0]).is_ok());
    let error = std::net::TcpStream::connect(addrs[1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(std::net::TcpStream::connect(addrs[2]).is_ok());
    // So that the first is closed too.
    assert_eq!(fds.claim("a").unwrap().len(), 1);
}

#[test]
fn any_number_of_sockets_crosses() {
    for n in [1, 32, 33, 100] {
        let dir = Dir::new(&format!("many-{n}"));
        let sockets = listeners(n);
        let fds = table(&sockets);
        let (sent, received) = hand_over(&fds, &dir.path("sock"));
        let received = received.unwrap();
        let names = |fds: &Fds| fds.serialize().0;
        assert_eq!(names(&received), names(&fds));
        assert!(sent.unwrap().bytes >= n * "127.0.0.1:80".len());
        for (bind, fd) in fds.firsts() {
            assert_eq!(inode(*received.get(&bind).unwrap()), inode(fd), "{bind}");
        }
        assert!(!Path::new(&dir.path("sock")).exists());
        drop(owned(&received));
    }
}

#[test]
fn what_has_no_wire_form_stays_behind() {
    let dir = Dir::new("space");
    let sockets = listeners(2);
    let mut fds = Fds::new();
    fds.add("/run/a b.sock".into(), sockets[0].as_raw_fd());
    fds.add("0.0.0.0:80".into(), sockets[1].as_raw_fd());
    let (sent, received) = hand_over(&fds, &dir.path("sock"));
    assert_eq!(sent.unwrap().bytes, 10);
    let received = received.unwrap();
    assert_eq!(received.serialize().0, ["0.0.0.0:80"]);
    drop(owned(&received));
}

#[test]
fn messages_keep_the_limits_of_the_original() {
    let split = |binds: &[String]| {
        let fds: Vec<RawFd> = (0..binds.len() as RawFd).collect();
        let messages = wire::messages(binds.to_vec(), fds.clone());
        let all: Vec<RawFd> = messages.iter().flat_map(|(_, fds)| fds.clone()).collect();
        assert_eq!(all, fds);
        for (payload, fds) in &messages {
            assert!(payload.len() <= 2048 && fds.len() <= 32);
            assert_eq!(payload.split(' ').count(), fds.len());
        }
        messages.len()
    };
    let names = |n: usize, len: usize| (0..n).map(|i| format!("{i:0len$}")).collect::<Vec<_>>();
    assert_eq!(split(&names(32, 10)), 1);
    assert_eq!(split(&names(33, 10)), 2);
    assert_eq!(split(&names(32, 63)), 1);
    assert_eq!(split(&names(32, 64)), 2);
    assert_eq!(split(&names(3, 2048)), 3);
}

/// The bytes on the wire are those of the original: names in one payload, sockets in one control
/// message, the first message complete by itself.
#[test]
fn the_first_message_reads_like_the_originals() {
    use nix::sys::socket::{recvmsg, ControlMessageOwned, MsgFlags, UnixAddr};
    let sockets = listeners(40);
    let (binds, raw) = table(&sockets).serialize();
    let (old, new) = UnixStream::pair().unwrap();
    let messages = wire::messages(binds.clone(), raw);
    let sending = std::thread::spawn(move || wire::send(&old, &messages));
    let mut data = [0; 2048];
    let mut control = nix::cmsg_space!([RawFd; 32]);
    let mut into = [std::io::IoSliceMut::new(&mut data)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message =
        recvmsg::<UnixAddr>(new.as_raw_fd(), &mut into, Some(&mut control), flags).unwrap();
    drop(new);
    let taken = sending.join().unwrap().unwrap().taken;
    assert_eq!(taken.len(), 32);
    let parts: Vec<_> = message.cmsgs().unwrap().collect();
    let n = message.bytes;
    let [ControlMessageOwned::ScmRights(fds)] = &parts[..] else {
        panic!("{parts:?}")
    };
    assert_eq!(fds.len(), 32);
    for fd in fds {
        nix::unistd::close(*fd).unwrap();
    }
    assert_eq!(
        std::str::from_utf8(&data[..n]).unwrap(),
        binds[..32].join(" ")
    );
}

/// Neither is an end of the service: the old process has to know, and to go on.
#[test]
fn a_new_process_that_does_not_take_the_sockets() {
    let sockets = listeners(40);
    let (binds, raw) = table(&sockets).serialize();
    let all = wire::messages(binds.clone(), raw.clone());
    let first = wire::messages(binds[..1].to_vec(), raw[..1].to_vec());
    for messages in [&all, &first] {
        // It has ended.
        let (old, new) = UnixStream::pair().unwrap();
        drop(new);
        assert_eq!(wire::send(&old, messages), Err(Errno::EPIPE));
        // It ends, and has read nothing.
        let (old, new) = UnixStream::pair().unwrap();
        let sent = std::thread::scope(|threads| {
            let sending = threads.spawn(|| wire::send(&old, messages));
            let mut peeked = [0];
            let there = nix::sys::socket::MsgFlags::MSG_PEEK;
            nix::sys::socket::recv(new.as_raw_fd(), &mut peeked, there).unwrap();
            drop(new);
            sending.join().unwrap()
        });
        assert_eq!(sent, Err(Errno::ECONNREFUSED));
    }
}

#[test]
fn sockets_that_are_refused_may_come_again() {
    let dir = Dir::new("refused");
    let path = dir.path("sock");
    let sockets = listeners(40);
    let fds = table(&sockets);
    std::thread::scope(|threads| {
        let receiver = threads.spawn(|| {
            let mut received = Fds::new();
            received
                .receive(path.as_str(), &patience(), &Trust::default())
                .map(|()| drop(owned(&received)))
        });
        let malformed = [("two names".to_owned(), vec![sockets[0].as_raw_fd()])];
        let to = Path::new(&path);
        let sent = upgrade_socket::send(to, &patience(), &Trust::default(), &malformed);
        assert_eq!(sent, Err(Errno::ECONNREFUSED));
        let sent = fds.send(path.as_str(), &patience(), &Trust::default());
        assert_eq!(sent.unwrap().taken.len(), 40);
        receiver.join().unwrap().unwrap();
    });
}

#[test]
fn messages_of_another_form_are_refused() {
    use nix::sys::socket::{sendmsg, ControlMessage, MsgFlags, UnixAddr};
    let socket = &listeners(1)[0];
    let rights = [socket.as_raw_fd(), socket.as_raw_fd()];
    for (payload, fds) in [
        (&b"a"[..], &rights[..]),
        (b"a b c", &rights),
        (b"a ", &rights),
        (b"\xff", &rights[..1]),
        (b"a", &[]),
    ] {
        let (old, new) = UnixStream::pair().unwrap();
        let data = [std::io::IoSlice::new(payload)];
        let control = [ControlMessage::ScmRights(fds)];
        let control = if fds.is_empty() { &[] } else { &control[..] };
        sendmsg::<UnixAddr>(old.as_raw_fd(), &data, control, MsgFlags::empty(), None).unwrap();
        drop(old);
        assert_eq!(
            wire::receive(&new).unwrap_err(),
            Errno::EPROTO,
            "{payload:?}"
        );
    }
    let (old, new) = UnixStream::pair().unwrap();
    drop(old);
    assert_eq!(wire::receive(&new).unwrap_err(), Errno::EPROTO);
}

#[test]
fn tries_are_as_many_as_is_set() {
    for (set, retries) in [(None, 5), (Some(0), 0), (Some(2), 2)] {
        assert_eq!(Patience::new(set).retries, retries);
    }
}

#[test]
fn nobody_comes() {
    let dir = Dir::new("nobody");
    let path = dir.path("sock");
    let none = Patience {
        retries: 0,
        pause: Duration::ZERO,
    };
    let trust = Trust::default();
    let sockets = listeners(1);
    let fds = table(&sockets);
    assert_eq!(fds.send(path.as_str(), &none, &trust), Err(Errno::ENOENT));
    let received = Fds::new().receive(path.as_str(), &none, &trust);
    assert_eq!(received, Err(Errno::EAGAIN));
    assert!(!Path::new(&path).exists());
    drop(UnixListener::bind(&path).unwrap());
    let sent = fds.send(path.as_str(), &none, &trust);
    assert_eq!(sent, Err(Errno::ECONNREFUSED));
}

#[test]
fn only_a_socket_is_replaced() {
    let dir = Dir::new("replace");
    let path = dir.path("sock");
    drop(UnixListener::bind(&path).unwrap());
    let sockets = listeners(1);
    let fds = table(&sockets);
    let (sent, received) = hand_over(&fds, &path);
    assert!(sent.is_ok());
    drop(owned(&received.unwrap()));

    let receive = |path: &str| Fds::new().get_from_sock(path);
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(receive(&path), Err(Errno::ENOTSOCK));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let link = dir.path("link");
    std::os::unix::fs::symlink(dir.path("elsewhere"), &link).unwrap();
    assert_eq!(receive(&link), Err(Errno::ELOOP));
    assert!(!Path::new(&dir.path("elsewhere")).exists());
}

#[test]
fn the_socket_is_open_to_other_users() {
    let dir = Dir::new("mode");
    let path = dir.path("sock");
    let sockets = listeners(1);
    let fds = table(&sockets);
    std::thread::scope(|threads| {
        let receiver = threads.spawn(|| {
            let mut received = Fds::new();
            received
                .receive(path.as_str(), &patience(), &Trust::default())
                .map(|()| drop(owned(&received)))
        });
        let mode = || std::fs::metadata(&path).map(|meta| meta.mode() & 0o777);
        while !mode().is_ok_and(|mode| mode == 0o666) {
            assert!(!receiver.is_finished());
            std::thread::yield_now();
        }
        fds.send(path.as_str(), &patience(), &Trust::default())
            .unwrap();
        receiver.join().unwrap().unwrap();
    });
}

#[test]
fn who_is_believed() {
    let trust = Trust::only(1000, Some(33));
    for uid in [0, 33, 1000] {
        assert!(trust.covers(uid), "{uid}");
    }
    for uid in [1, 34, 999, u32::MAX] {
        assert!(!trust.covers(uid), "{uid}");
    }
    assert!(!Trust::only(1000, None).covers(33));
    assert!(Trust::new(Some("root")).covers(0));
    assert!(Trust::new(Some("no-such-user")).covers(0));
}

/// A process of the original implementation must see one socket for each bind string, and nothing else.
#[test]
fn what_the_original_knows_nothing_of_comes_in_further_messages() {
    let sockets = listeners(5);
    let raw: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    let mut fds = Fds::new();
    for (bind, first) in [("a", 0), ("b", 2)] {
        fds.add_owned(bind, raw[first]);
        fds.add_more(bind, raw[first], raw[first + 1]);
        fds.add_more(bind, raw[4], raw[4]);
    }
    fds.add_traveller("b", raw[2], raw[4]);
    fds.add_traveller("a", raw[4], raw[4]);
    let shared = ListenFds::new(fds.into());
    for original in [false, true] {
        let dir = Dir::new(&format!("further-{original}"));
        let path = dir.path("sock");
        let received = std::thread::scope(|threads| {
            let receiving = threads.spawn(|| {
                let mut received = Fds::new();
                if original {
                    received.receive_as_original(&path);
                } else {
                    let trust = Trust::default();
                    received
                        .receive(path.as_str(), &patience(), &trust)
                        .unwrap();
                }
                received
            });
            Fds::hand_on(&shared, path.as_str(), &patience(), &Trust::default()).unwrap();
            receiving.join().unwrap()
        });
        let mut fds = shared.lock();
        assert_eq!(received.serialize().0, ["a", "b"]);
        let of = |bind: &str| received.sockets(bind).iter().map(|fd| inode(*fd)).collect();
        let (a, b): (Vec<_>, Vec<_>) = (of("a"), of("b"));
        let sent: Vec<_> = raw.iter().map(|fd| inode(*fd)).collect();
        let all = if original { 1 } else { 2 };
        assert_eq!((&a[..], &b[..]), (&sent[..all], &sent[2..2 + all]));
        assert_eq!(received.travellers(), all - 1);
        let handed_on: Vec<bool> = raw.iter().map(|fd| fds.was_handed_on(*fd)).collect();
        assert_eq!(handed_on, [true, !original, true, !original, !original]);
        let mut received = received;
        let first = *received.get("b").unwrap();
        if let Some(file) = received.claim_traveller("b", first) {
            assert_eq!(inode(file.as_raw_fd()), sent[4]);
        }
        if original {
            fds.remove("a", raw[0]);
            assert!(!fds.was_handed_on(raw[0]) && fds.was_handed_on(raw[2]));
        }
        for bind in ["a", "b"] {
            assert_eq!(received.claim(bind).unwrap().len(), all);
        }
    }
}

/// A table that is handed on to another one, which waits for it.
fn hand_on(fds: &ListenFds, path: &str) -> Fds {
    std::thread::scope(|threads| {
        let receiving = threads.spawn(|| {
            let mut received = Fds::new();
            let trust = Trust::default();
            let done = received.receive(path, &patience(), &trust);
            done.map(|()| received)
        });
        Fds::hand_on(fds, path, &patience(), &Trust::default()).unwrap();
        receiving.join().unwrap().unwrap()
    })
}

/// It is the old process then that has to serve what waits there. The next new process may take it all the same.
#[test]
fn a_socket_that_is_given_up_was_not_handed_on() {
    let dir = Dir::new("given-up");
    let path = dir.path("sock");
    let sockets = listeners(2);
    let fds = ListenFds::new(table(&sockets).into());
    let of =
        |fds: &ListenFds| [0, 1].map(|i: usize| fds.lock().was_handed_on(sockets[i].as_raw_fd()));
    let mut received = hand_on(&fds, &path);
    assert_eq!(of(&fds), [true, true]);
    let keep = HashSet::from(["127.0.0.1:80".to_owned()]);
    assert_eq!(received.close_unclaimed(&keep), ["127.0.0.2:80"]);
    assert_eq!(of(&fds), [true, false]);
    drop(received.claim("127.0.0.1:80"));
    let next = hand_on(&fds, &path);
    assert_eq!(of(&fds), [true, true]);
    drop(owned(&next));
}

/// A listener that closes its socket, or asks for the table, need not wait until the new process has come and read.
#[test]
fn the_table_is_free_while_sockets_are_on_their_way() {
    let dir = Dir::new("free");
    let path = dir.path("sock");
    let mut sockets = listeners(2);
    let sent = inode(sockets[1].as_raw_fd());
    let fds = ListenFds::new(table(&sockets).into());
    let listener = UnixListener::bind(&path).unwrap();
    let received = std::thread::scope(|threads| {
        let handing =
            threads.spawn(|| Fds::hand_on(&fds, path.as_str(), &patience(), &Trust::default()));
        let (stream, _) = listener.accept().unwrap();
        let mut table = fds.try_lock().expect("nobody has locked it");
        let gone = sockets.remove(0);
        table.remove("127.0.0.1:80", gone.as_raw_fd());
        drop((table, gone));
        let received = wire::receive(&stream).unwrap();
        drop(stream);
        handing.join().unwrap().unwrap();
        received
    });
    assert_eq!(received.0[..2], ["127.0.0.1:80", "127.0.0.2:80"]);
    assert_eq!(inode(received.1[1]), sent);
    let mut new = Fds::new();
    new.enter_inherited(received.0, received.1, nix::unistd::Pid::this());
    drop(owned(&new));
    assert!(fds.lock().was_handed_on(sockets[0].as_raw_fd()));
}

#[test]
fn a_table_of_which_nothing_can_be_passed_on_is_not_handed_over() {
    let dir = Dir::new("spaces");
    let sockets = listeners(1);
    let mut fds = Fds::new();
    fds.add("/run/a b.sock".into(), sockets[0].as_raw_fd());
    let sent = fds.send(dir.path("sock").as_str(), &patience(), &Trust::default());
    assert_eq!(sent, Err(Errno::EINVAL));
}
