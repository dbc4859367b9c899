//! Sockets on bare epoll, for the pass-through and for the origin: one thread for each worker, connections in turn.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use socket2::{Domain, Socket, Type};

/// What a worker does with its connections.
pub(crate) trait Connections {
    /// A connection has come.
    fn open(&mut self, epoll: &Epoll, stream: TcpStream) -> io::Result<()>;
    /// Something can be done at this descriptor.
    fn ready(&mut self, epoll: &Epoll, fd: RawFd, flags: EpollFlags);
}

/// A socket that listens with a long queue.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Serves what comes there with so many workers, each with what `make` makes; returns on failure only.
pub(crate) fn serve<C: Connections>(
    listener: TcpListener,
    workers: usize,
    make: impl Fn() -> C + Clone + Send + 'static,
) -> io::Result<()> {
    let mut others = Vec::new();
    for _ in 1..workers {
        let (queue, arrived) = channel();
        let bell = Arc::new(EventFd::new()?);
        let (make, rung) = (make.clone(), bell.clone());
        others.push(Other { queue, bell });
        std::thread::spawn(move || {
            let ended = Worker::new(make()).and_then(|worker| worker.of_queue(&arrived, &rung));
            if let Err(e) = ended {
                eprintln!("a worker failed: {e}");
                // The measurement has no use for the others.
                std::process::exit(1);
            }
        });
    }
    Worker::new(make())?.of_listener(&listener, &others)
}

/// The way to another worker.
struct Other {
    queue: Sender<TcpStream>,
    bell: Arc<EventFd>,
}

struct Worker<C> {
    epoll: Epoll,
    connections: C,
}

impl<C: Connections> Worker<C> {
    fn new(connections: C) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Worker { epoll, connections })
    }

    fn of_listener(mut self, listener: &TcpListener, others: &[Other]) -> io::Result<()> {
        let mut turn = 0;
        self.run(listener, |worker| {
            while let Some(stream) = accept(listener)? {
                match turn {
                    0 => worker.open(stream),
                    n => {
                        let other = &others[n - 1];
                        other.queue.send(stream).map_err(io::Error::other)?;
                        other.bell.write(1)?;
                    }
                }
                turn = (turn + 1) % (others.len() + 1);
            }
            Ok(())
        })
    }

    fn of_queue(mut self, arrived: &Receiver<TcpStream>, bell: &EventFd) -> io::Result<()> {
        self.run(bell, |worker| {
            bell.read()?;
            while let Ok(stream) = arrived.try_recv() {
                worker.open(stream);
            }
            Ok(())
        })
    }

    fn open(&mut self, stream: TcpStream) {
        // The client sees that its connection ends, and counts that.
        if let Err(e) = self.connections.open(&self.epoll, stream) {
            eprintln!("a connection failed: {e}");
        }
    }

    fn run(
        &mut self,
        source: &impl AsFd,
        mut arrival: impl FnMut(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        let source = source.as_fd();
        let (fd, wanted) = (source.as_raw_fd(), EpollFlags::EPOLLIN);
        self.epoll.add(source, event(wanted, fd))?;
        let source = fd;
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let n = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(nix::Error::EINTR) => continue,
                n => n?,
            };
            for event in &events[..n] {
                match event.data() as RawFd {
                    fd if fd == source => arrival(self)?,
                    fd => self.connections.ready(&self.epoll, fd, event.events()),
                }
            }
        }
    }
}

/// The next connection that waits, if one does.
fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                return Ok(Some(stream));
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            // The client has gone again.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => return Err(e),
        }
    }
}

/// What is wanted of a descriptor, which is also how it is told that it is ready.
pub(crate) fn event(wanted: EpollFlags, fd: RawFd) -> EpollEvent {
    EpollEvent::new(wanted, fd as u64)
}

/// Things by descriptor.
pub(crate) struct ByFd<T>(Vec<Option<T>>);

impl<T> ByFd<T> {
    pub(crate) fn new() -> Self {
        ByFd(Vec::new())
    }

    pub(crate) fn put(&mut self, fd: RawFd, thing: T) {
        let at = fd as usize;
        if at >= self.0.len() {
            self.0.resize_with(at + 1, || None);
        }
        self.0[at] = Some(thing);
    }

    pub(crate) fn at(&mut self, fd: RawFd) -> Option<&mut T> {
        self.0.get_mut(fd as usize)?.as_mut()
    }

    pub(crate) fn take(&mut self, fd: RawFd) -> Option<T> {
        self.0.get_mut(fd as usize)?.take()
    }
}
