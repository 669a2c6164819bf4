//! Wakes the hooks' thread.
//!
//! A shard must not take a lock that another thread may hold while it is not running, so it does not wake a task of
//! the hooks' runtime itself: it writes to a pipe the runtime polls, and only if nobody did before.

use std::io::{self, PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::unix::pipe::Receiver;

/// Rung by any thread. Made before any thread has a file table of its own, so that its number means the same
/// descriptor in each.
#[derive(Clone, Debug)]
pub struct Bell(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    is_rung: AtomicBool,
    writer: PipeWriter,
}

/// A bell, and the descriptor of a [`BellWaiter`].
pub fn open() -> io::Result<(Bell, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    let is_rung = AtomicBool::new(false);
    Ok((Bell(Arc::new(Shared { is_rung, writer })), reader.into()))
}

impl Bell {
    /// Wakes the hooks' thread. Call after pushing to its queue.
    pub fn ring(&self) {
        if !self.0.is_rung.swap(true, Ordering::AcqRel) {
            // It cannot block: there are never more than a few bytes in the pipe.
            let _ = (&self.0.writer).write(&[1]);
        }
    }
}

/// Waits for a [`Bell`].
pub struct BellWaiter {
    bell: Bell,
    reader: Receiver,
}

impl BellWaiter {
    /// The side that waits. Must be called within the runtime.
    pub fn new(bell: Bell, reader: OwnedFd) -> io::Result<Self> {
        let reader = Receiver::from_owned_fd(reader)?;
        Ok(Self { bell, reader })
    }

    /// Waits until the bell was rung. The caller then empties its queue: what is pushed from now on rings again.
    pub async fn wait(&self) {
        let mut rings = [0; 8];
        // The pipe never ends: the bell holds its other end.
        let _ = self.reader.readable().await;
        let _ = self.reader.try_read(&mut rings);
        // After the read: a ring that comes between the two writes nothing, but what was pushed before it is seen.
        self.bell.0.is_rung.swap(false, Ordering::AcqRel);
    }
}
