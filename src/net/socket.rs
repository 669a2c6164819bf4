//! A connected socket: bytes in and out at once, or not at all.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

/// A connected TCP socket; 4 bytes. Reads and writes never block; a [`super::Watch`] or a
/// [`super::Pollable`] says when they may do something.
#[derive(Debug)]
pub struct Socket<Fd = OwnedFd>(Fd);

const _: () = assert!(size_of::<Socket>() == 4);

impl From<OwnedFd> for Socket {
    /// Takes over a connected (or connecting) socket.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl<Fd: AsFd> Socket<Fd> {
    /// The socket of a descriptor that is something else besides.
    pub(super) fn over(fd: Fd) -> Self {
        Self(fd)
    }

    /// What the descriptor is besides.
    pub(super) fn inner(&self) -> &Fd {
        &self.0
    }

    /// Reads what is there, up to `buffer.len()`; 0 is the end of the stream.
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // DONTWAIT on each call: the flag does not depend on how the socket was opened.
        let (read, _) = recv(self, buffer, RecvFlags::DONTWAIT)?;
        Ok(read)
    }

    /// Hands bytes to the kernel, as many as it takes without waiting. A return smaller than
    /// `bytes.len()`, or `WouldBlock`, means its buffer is full.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(send(self, bytes, flags)?)
    }

    /// Acknowledges at once what has come, and what comes next: a peer that sends a request in parts may keep the next
    /// part until then (Nagle's algorithm, RFC 9293 section 3.7.4).
    pub fn acknowledge(&self) {
        // Fails only for a descriptor that is not a socket.
        let _ = sockopt::set_tcp_quickack(self, true);
    }

    /// Ends one or both directions. `Both` also wakes every wait on this socket.
    /// A socket that is no longer connected is left as it is.
    pub fn shutdown(&self, how: Shutdown) {
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        // ENOTCONN: the peer was faster, there is nothing left to end.
        let _ = rustix::net::shutdown(self, how);
    }

    /// Makes the last close send RST and forget unsent bytes, instead of FIN and a wait.
    pub fn reset_on_close(&self) {
        // Fails only for a descriptor that is not a socket.
        let _ = sockopt::set_socket_linger(self, Some(Duration::ZERO));
    }
}

impl<Fd: AsFd> AsFd for Socket<Fd> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
