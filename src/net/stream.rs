//! A connected socket that a task waits for.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Pollable, Socket};

/// A connected TCP socket with its own way to wait for it; 8 bytes, and a task around it. Where there
/// are many, a [`super::Watch`] waits for all of them with less.
pub struct Stream(Socket<Pollable>);

impl Stream {
    /// Takes over a connected (or connecting) socket.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Pollable::from_fd(fd).map(|pollable| Self(Socket::over(pollable)))
    }

    /// Waits until [`Socket::try_recv`] has something to say: bytes, the end, or an error.
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> {
        self.0.inner().readable()
    }

    /// Waits until [`Socket::try_send`] can take bytes, or the connection failed.
    pub fn writable(&self) -> impl Future<Output = io::Result<()>> {
        self.0.inner().writable()
    }
}

impl Deref for Stream {
    type Target = Socket<Pollable>;

    fn deref(&self) -> &Socket<Pollable> {
        &self.0
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
