//! A connected socket.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

use super::Pollable;

/// A connected TCP socket; 8 bytes. Reads and writes never block and never go through the ring.
pub struct Stream(Pollable);

impl Stream {
    /// Takes over a connected (or connecting) socket.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Pollable::from_fd(fd).map(Self)
    }

    /// Waits until [`Self::try_recv`] has something to say: bytes, the end, or an error.
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> {
        self.0.readable()
    }

    /// Waits until [`Self::try_send`] can take bytes, or the connection failed.
    pub fn writable(&self) -> impl Future<Output = io::Result<()>> {
        self.0.writable()
    }

    /// Reads what is there, up to `buffer.len()`; 0 is the end of the stream.
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // DONTWAIT on each call: the flag does not depend on how the socket was opened.
        let (read, _) = recv(&self.0, buffer, RecvFlags::DONTWAIT)?;
        Ok(read)
    }

    /// Hands bytes to the kernel, as many as it takes without waiting. A return smaller than
    /// `bytes.len()`, or `WouldBlock`, means its buffer is full.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(send(&self.0, bytes, flags)?)
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
        let _ = rustix::net::shutdown(&self.0, how);
    }

    /// Makes the last close send RST and forget unsent bytes, instead of FIN and a wait.
    pub fn reset_on_close(&self) {
        // Fails only for a descriptor that is not a socket.
        let _ = sockopt::set_socket_linger(&self.0, Some(Duration::ZERO));
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
