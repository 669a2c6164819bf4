//! Listening sockets: one per shard and address, with the options accepted sockets inherit.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::time::Duration;

use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::Pollable;

/// TCP settings of a listener, inherited by what it accepts, so that no accepted socket costs a
/// system call more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Connections the kernel holds ready for accept.
    pub backlog: u32,
    /// Unacknowledged data older than this ends the connection (TCP_USER_TIMEOUT); zero leaves it to
    /// the kernel's retransmission limit.
    pub user_timeout: Duration,
    /// Silence before the first keepalive probe.
    pub keepalive_idle: Duration,
    /// Time between probes.
    pub keepalive_interval: Duration,
    /// Unanswered probes that end the connection.
    pub keepalive_count: u32,
    /// Unsent bytes the kernel takes per socket before a send blocks (TCP_NOTSENT_LOWAT). Without it
    /// a reader that stops costs megabytes of kernel memory before it is noticed.
    pub notsent_lowat_bytes: u32,
    /// Congestion control by name; `None` keeps the system's.
    pub congestion_control: Option<String>,
}

/// A new connection and where it comes from.
pub struct Accepted {
    /// The connection.
    pub socket: super::Socket,
    /// The peer's address.
    pub peer: SocketAddr,
}

/// A listening socket of one shard.
pub struct Listener {
    pollable: Pollable,
    /// Others go on listening on the same socket when this process stops.
    is_adopted: bool,
}

/// The number of the first descriptor a service manager hands over (sd_listen_fds(3)).
const FIRST_HANDED_OVER: RawFd = 3;

/// A listening socket that was handed over by whoever started this process. It has the same number in
/// every file table and stays open as long as the process runs.
#[derive(Clone, Copy, Debug)]
pub struct HandedOver {
    fd: RawFd,
    /// Where it listens.
    pub address: SocketAddr,
}

impl HandedOver {
    /// The sockets that the environment of a service manager announces: LISTEN_FDS of them for the
    /// process LISTEN_PID. Must be called before the first [`super::own_file_table`].
    ///
    /// # Errors
    /// A descriptor that is announced and is not a listening internet socket.
    pub fn from_environment() -> io::Result<Vec<Self>> {
        let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
        let count = match (number("LISTEN_PID"), number("LISTEN_FDS")) {
            (Some(pid), Some(count)) if pid == std::process::id() => count,
            _ => 0,
        };
        (FIRST_HANDED_OVER..)
            .take(count as usize)
            .map(Self::check)
            .collect()
    }

    fn check(fd: RawFd) -> io::Result<Self> {
        let wrong = |what: &str| io::Error::other(format!("descriptor {fd} of LISTEN_FDS {what}"));
        if rustix::io::fcntl_getfd(Self::borrow(fd)).is_err() {
            return Err(wrong("is not open"));
        }
        let borrowed = Self::borrow(fd);
        let socket = SockRef::from(&borrowed);
        if !socket.is_listener().unwrap_or(false) {
            return Err(wrong("is not a listening socket"));
        }
        let address = local_addr(&socket).map_err(|_| wrong("is not an internet socket"))?;
        Ok(Self { fd, address })
    }

    fn borrow(fd: RawFd) -> BorrowedFd<'static> {
        // SAFETY: descriptors handed over at the start belong to nobody else in this process and are
        // never closed; one that was never open is only asked whether it is.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }
}

impl Listener {
    /// Binds `address` with SO_REUSEPORT, so that every shard can have a listener of its own there.
    pub fn bind(address: SocketAddr, options: &TcpOptions) -> io::Result<Self> {
        let socket = open(address)?;
        socket.set_reuse_port(true)?;
        apply(&SockRef::from(&socket), options)?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        let listening = SockRef::from(&socket);
        acknowledge_with_answers(&listening)?;
        Ok(Self {
            pollable: Pollable::from_fd(socket.into())?,
            is_adopted: false,
        })
    }

    /// Listens on a socket that was handed over, beside every other shard that does. What is accepted
    /// inherits `options` but for the backlog, which whoever opened it has chosen.
    pub fn adopt(socket: HandedOver, options: &TcpOptions) -> io::Result<Self> {
        let fd = rustix::io::fcntl_dupfd_cloexec(HandedOver::borrow(socket.fd), 0)?;
        rustix::io::ioctl_fionbio(&fd, true)?;
        let listening = SockRef::from(&fd);
        apply(&listening, options)?;
        acknowledge_with_answers(&listening)?;
        Ok(Self {
            pollable: Pollable::from_fd(fd)?,
            is_adopted: true,
        })
    }

    /// The address bound, with the port the kernel chose if 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(&SockRef::from(&self.pollable))
    }

    /// Waits until a connection is ready, or the listener was stopped.
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> {
        self.pollable.readable()
    }

    /// Takes one connection that is ready; `WouldBlock` if there is none.
    pub fn try_accept(&self) -> io::Result<Accepted> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (fd, peer) = acceptfrom_with(&self.pollable, flags)?;
        let peer = peer
            .and_then(|address| SocketAddr::try_from(address).ok())
            .ok_or_else(|| io::Error::other("a peer without an internet address"))?;
        Ok(Accepted {
            socket: super::Socket::from(fd),
            peer,
        })
    }

    /// Stops listening at once: connections in the backlog are refused, waits return. Closing alone
    /// is not enough while another file table may still hold the socket. One that was handed over goes
    /// on listening, for whoever comes next; here nobody must accept from it any more.
    pub fn stop(&self) {
        if self.is_adopted {
            return;
        }
        // ENOTCONN says that it was stopped before.
        let _ = SockRef::from(&self.pollable).shutdown(Shutdown::Both);
    }
}

/// Fails with `AddrInUse` if another socket listens on `address`; returns the address with its port
/// filled in.
///
/// SO_REUSEPORT would let a second server share the port silently, so this binds once without it
/// (SO_REUSEADDR only, so that connections in TIME_WAIT do not count) and lets go.
pub fn ensure_port_free(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = open(address)?;
    socket.bind(&address.into())?;
    socket.listen(1)?;
    local_addr(&SockRef::from(&socket))
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    Ok(socket)
}

fn apply(socket: &SockRef<'_>, options: &TcpOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(options.keepalive_idle)
            .with_interval(options.keepalive_interval)
            .with_retries(options.keepalive_count),
    )?;
    if !options.user_timeout.is_zero() {
        socket.set_tcp_user_timeout(Some(options.user_timeout))?;
    }
    socket.set_tcp_notsent_lowat(options.notsent_lowat_bytes)?;
    if let Some(name) = &options.congestion_control {
        socket.set_tcp_congestion(name.as_bytes())?;
    }
    Ok(())
}

/// A request is acknowledged by its answer. By default the first segments of a connection are acknowledged at once,
/// each by a segment of its own. What is accepted inherits it; listen(2) forgets what was set before.
fn acknowledge_with_answers(listening: &SockRef<'_>) -> io::Result<()> {
    listening.set_tcp_quickack(false)
}

fn local_addr(socket: &SockRef<'_>) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("not an internet socket"))
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pollable.as_fd()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use rustix::net::sockopt::tcp_quickack;

    use super::*;
    use crate::net::build_runtime;

    pub(in crate::net) const OPTIONS: TcpOptions = TcpOptions {
        backlog: 128,
        user_timeout: Duration::ZERO,
        keepalive_idle: Duration::from_secs(60),
        keepalive_interval: Duration::from_secs(60),
        keepalive_count: 3,
        notsent_lowat_bytes: 16384,
        congestion_control: None,
    };

    #[test]
    fn requests_are_acknowledged_by_their_answers_unless_told_otherwise() {
        build_runtime().unwrap().block_on(async {
            let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &OPTIONS).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            listener.readable().await.unwrap();
            let Accepted { socket, .. } = listener.try_accept().unwrap();
            assert!(!tcp_quickack(&socket).unwrap());
            socket.acknowledge();
            assert!(tcp_quickack(&socket).unwrap());
            drop(client);
        });
    }
}
