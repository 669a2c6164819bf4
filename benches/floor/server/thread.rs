//! One thread: its listener, its connections, its subscribers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use longwire::proto::frame::{Opcode, encode_frame};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use socket2::{Domain, Protocol, Socket, Type};

use super::heartbeat;
use super::http::{Wish, answer, take_wish};
use super::shared::{Beats, Counters, Entry, Shared, Task, What};

/// Connections the kernel holds ready for accept.
const BACKLOG: i32 = 4096;
/// Connections accepted in a row.
const ACCEPTS_MAX: usize = 64;
/// Longest wait for the first bytes of a connection, which whoever connects sends at once.
const HEAD_TIMEOUT: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};
/// Longest wait for room in a socket; the load generator always reads.
const ROOM_TIMEOUT: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// One thread of the server.
pub struct Thread {
    number: usize,
    shared: Arc<Shared>,
    listener: OwnedFd,
    /// Not yet WebSockets, or never to be.
    connections: Vec<Connection>,
    subscribers: Vec<OwnedFd>,
    /// Entries of the log that are done.
    place: usize,
    scratch: Box<[u8]>,
}

struct Connection {
    socket: OwnedFd,
    input: Vec<u8>,
}

/// What becomes of a connection that was read from.
enum Next {
    /// It stays.
    Keep,
    /// The same; there was nothing to read.
    Wait,
    /// It is gone.
    Drop,
    /// It is a subscriber now.
    Subscribe,
}

impl Thread {
    /// Opens the thread's listener.
    pub fn listen(number: usize, address: SocketAddr, shared: Arc<Shared>) -> io::Result<Self> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let listener = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        listener.set_reuse_address(true)?;
        listener.set_reuse_port(true)?;
        // Accepted sockets inherit it.
        listener.set_tcp_nodelay(true)?;
        listener.bind(&address.into())?;
        listener.listen(BACKLOG)?;
        Ok(Self {
            number,
            shared,
            listener: listener.into(),
            connections: Vec::new(),
            subscribers: Vec::new(),
            place: 0,
            scratch: vec![0; 64 * 1024].into(),
        })
    }

    /// Serves for ever.
    pub fn run(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready.bell {
                // A bell that rang twice is read once.
                rustix::io::read(self.shared.bell(self.number), &mut [0; 8])?;
                self.catch_up()?;
            }
            // From the back: what is removed moves only what was looked at.
            for index in ready.connections.into_iter().rev() {
                self.serve(index)?;
            }
            if ready.listener {
                self.accept()?;
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let bell = self.shared.bell(self.number);
        let fixed = [&self.listener, bell];
        let sockets = self.connections.iter().map(|connection| &connection.socket);
        let mut fds: Vec<_> = fixed
            .into_iter()
            .chain(sockets)
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        while let Err(errno) = poll(&mut fds, None) {
            if errno != Errno::INTR {
                return Err(errno.into());
            }
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let connections = fds[2..].iter().enumerate();
        Ok(Ready {
            listener: is_ready(&fds[0]),
            bell: is_ready(&fds[1]),
            connections: connections
                .filter(|(_, fd)| is_ready(fd))
                .map(|(index, _)| index)
                .collect(),
        })
    }

    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPTS_MAX {
            match accept_with(&self.listener, SocketFlags::CLOEXEC) {
                Ok(socket) => self.begin(socket)?,
                Err(Errno::AGAIN) => break,
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Waits for the first request of a connection: the oldest is served first, and while it is waited for, others
    /// gather behind it. To look at all of them each time would cost more than the handshakes.
    fn begin(&mut self, socket: OwnedFd) -> io::Result<()> {
        let index = self.connections.len();
        self.connections.push(Connection {
            socket,
            input: Vec::new(),
        });
        if matches!(self.serve(index)?, Next::Wait) {
            let mut fds = [PollFd::new(&self.connections[index].socket, PollFlags::IN)];
            // Should nothing come, it is waited for with the others.
            let _ = poll(&mut fds, Some(&HEAD_TIMEOUT));
            self.serve(index)?;
        }
        Ok(())
    }

    /// Reads from a connection and does what it asks for.
    fn serve(&mut self, index: usize) -> io::Result<Next> {
        let next = self.read(index)?;
        match next {
            Next::Keep | Next::Wait => {}
            Next::Drop => drop(self.connections.swap_remove(index)),
            Next::Subscribe => {
                let connection = self.connections.swap_remove(index);
                self.subscribers.push(connection.socket);
                Counters::add(&self.shared.counters.connections, 1);
            }
        }
        Ok(next)
    }

    fn read(&mut self, index: usize) -> io::Result<Next> {
        let connection = &mut self.connections[index];
        match recv(&connection.socket, &mut *self.scratch, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Ok(Next::Drop),
            Ok((read, _)) => connection.input.extend_from_slice(&self.scratch[..read]),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Next::Wait),
            Err(_) => return Ok(Next::Drop),
        }
        loop {
            match take_wish(&mut self.connections[index].input) {
                Ok(None) => return Ok(Next::Keep),
                Ok(Some(Wish::Open(opening))) => {
                    return Ok(match self.answer(index, &opening) {
                        true => Next::Subscribe,
                        false => Next::Drop,
                    });
                }
                Ok(Some(wish)) => self.grant(index, wish)?,
                Err(reason) => {
                    eprintln!("floor: {reason}");
                    return Ok(Next::Drop);
                }
            }
        }
    }

    fn grant(&mut self, index: usize, wish: Wish) -> io::Result<()> {
        match wish {
            // Answered as soon as it has its place, before anybody gets it.
            Wish::Publish(payload) => {
                let mut frame = Vec::new();
                encode_frame(&mut frame, Opcode::Text, &payload);
                let entry = Arc::new(Entry::Frame(frame));
                let offset = self.shared.append(entry, self.number)?;
                let body = format!("{{\"offset\":{offset},\"epoch\":\"0\"}}");
                self.answer(index, &answer(200, body.as_bytes()));
                self.catch_up()
            }
            Wish::Do(what) => {
                let entry = Arc::new(Entry::Task(Task::new(what)));
                self.shared.append(Arc::clone(&entry), self.number)?;
                self.catch_up()?;
                if let Entry::Task(task) = &*entry {
                    let beats = task.wait(self.shared.threads());
                    self.answer(index, &answer(200, &serde_json::to_vec(&beats)?));
                }
                Ok(())
            }
            Wish::Status => {
                let body = serde_json::to_vec(&self.shared.counters)?;
                self.answer(index, &answer(200, &body));
                Ok(())
            }
            Wish::Open(_) | Wish::Unknown => {
                self.answer(index, &answer(404, b""));
                Ok(())
            }
        }
    }

    /// Sends on a connection; false if it is broken, which its next read finds too.
    fn answer(&self, index: usize, bytes: &[u8]) -> bool {
        send_all(&self.connections[index].socket, bytes, &self.shared)
    }

    /// Does all entries of the log that are not done.
    fn catch_up(&mut self) -> io::Result<()> {
        while let Some(entry) = self.shared.entry_after(self.place) {
            self.place += 1;
            match &*entry {
                Entry::Frame(frame) => self.pass(frame),
                Entry::Task(task) => task.finish(self.work(task.what)?),
            }
        }
        Ok(())
    }

    /// The floor itself: one send per subscriber.
    fn pass(&mut self, frame: &[u8]) {
        let shared = &self.shared;
        let before = self.subscribers.len();
        self.subscribers
            .retain(|socket| send_all(socket, frame, shared));
        let lost = (before - self.subscribers.len()) as u64;
        if lost > 0 {
            Counters::add(&shared.counters.lost, lost);
            Counters::take(&shared.counters.connections, lost);
        }
    }

    fn work(&mut self, what: What) -> io::Result<Beats> {
        match what {
            What::Heartbeat(plan) => heartbeat::run(&plan, &self.subscribers),
            What::Reset => {
                let closed = self.subscribers.len() as u64;
                self.subscribers.clear();
                Counters::take(&self.shared.counters.connections, closed);
                Ok(Beats::default())
            }
        }
    }
}

/// What there is to do.
struct Ready {
    listener: bool,
    bell: bool,
    connections: Vec<usize>,
}

/// Sends everything, waiting for room if need be; false if the socket takes no more.
fn send_all(socket: &OwnedFd, mut bytes: &[u8], shared: &Shared) -> bool {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match send(socket, bytes, flags) {
            Ok(sent) if sent == bytes.len() => return true,
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::AGAIN) => {
                Counters::add(&shared.counters.waits, 1);
                let mut fds = [PollFd::new(socket, PollFlags::OUT)];
                if !matches!(poll(&mut fds, Some(&ROOM_TIMEOUT)), Ok(1)) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
}
