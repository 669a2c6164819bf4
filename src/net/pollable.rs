//! Waiting for a descriptor through the thread's ring.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

/// A descriptor whose readiness the calling thread's ring can report; 8 bytes.
///
/// Wraps monoio's `UnixStream` for any pollable descriptor (TCP socket, listener, eventfd): it is a
/// single pointer, where `TcpStream` caches two addresses (80 bytes). Only its poll operations are used.
pub struct Pollable(monoio::net::UnixStream);

const _: () = assert!(size_of::<Pollable>() == 8);

impl Pollable {
    /// Takes over `fd`. Must be called on a thread that runs a [`super::Runtime`].
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: `fd` is owned and open; the std type is only a carrier for the number into monoio.
        let carrier = unsafe { std::os::unix::net::UnixStream::from_raw_fd(fd.into_raw_fd()) };
        monoio::net::UnixStream::from_std(carrier).map(Self)
    }

    /// Waits until a read would not block, the peer is gone, or the descriptor failed.
    /// Dropping the wait is safe: nothing but a poll is in the ring.
    ///
    /// Not an `async fn`, here and in what wraps it: each would add its own state to every idle task.
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> {
        self.0.readable(false)
    }

    /// Waits until a write would not block or the descriptor failed.
    pub fn writable(&self) -> impl Future<Output = io::Result<()>> {
        self.0.writable(false)
    }
}

impl AsFd for Pollable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor stays open as long as `self.0`, which outlives the borrow.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

/// A way for a long loop to let the ring be served before it goes on.
///
/// monoio's run queue is last-in-first-out and polls the ring only when the queue is empty, so a task
/// that wakes itself starves timers and sockets. Waiting for an always-ready descriptor goes round
/// through the ring instead.
pub struct GiveWay(Pollable);

impl GiveWay {
    /// Opens the always-writable descriptor (an eventfd at zero).
    pub fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Pollable::from_fd(fd).map(Self)
    }

    /// Comes back after every task that is ready now, and every completion in the ring, had its turn.
    pub async fn turn(&self) {
        // An eventfd at zero cannot fail to be writable; if the poll itself is refused the loop
        // simply goes on without having given way.
        let _ = self.0.writable().await;
    }
}
