//! Waking a shard that sleeps in its ring.

use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};

use crate::net::Pollable;

use super::park_flag::ParkFlag;

/// The bell of one shard, rung by any thread.
///
/// Its eventfd is opened before any shard has a file table of its own and is never closed, so the
/// number means the same descriptor in every table.
#[derive(Debug)]
pub struct Doorbell {
    flag: ParkFlag,
    eventfd: RawFd,
}

impl Doorbell {
    /// Opens a bell. Must be called before the first [`crate::net::own_file_table`].
    pub fn open() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            flag: ParkFlag::default(),
            eventfd: fd.into_raw_fd(),
        })
    }

    /// Wakes the owner if it sleeps. Call after pushing to its queue.
    pub fn ring(&self) {
        if self.flag.must_ring() {
            // The counter can only be full if the owner was rung already.
            let _ = rustix::io::write(self.fd(), &1u64.to_ne_bytes());
        }
    }

    /// The owner's side, to wait on. Must be called once, in the thread that owns the queue.
    pub fn waiter(&self) -> io::Result<DoorbellWaiter<'_>> {
        // A duplicate, since the waiter closes what it owns when it ends and the bell never may.
        let duplicate: OwnedFd = rustix::io::fcntl_dupfd_cloexec(self.fd(), 0)?;
        Ok(DoorbellWaiter {
            bell: self,
            pollable: Pollable::from_fd(duplicate)?,
        })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the eventfd is never closed, and it has this number in every file table (see the
        // type's documentation).
        unsafe { BorrowedFd::borrow_raw(self.eventfd) }
    }
}

/// Waits for a [`Doorbell`].
pub struct DoorbellWaiter<'a> {
    bell: &'a Doorbell,
    pollable: Pollable,
}

impl DoorbellWaiter<'_> {
    /// Sleeps until the bell rings, unless `has_work` says that there is something to do already.
    pub async fn wait(&self, has_work: impl Fn() -> bool) {
        self.bell.flag.park();
        if !has_work() {
            // A refused poll means a spurious wake; the caller looks at its queue and comes back.
            let _ = self.pollable.readable().await;
            let mut rings = [0; 8];
            // WouldBlock if nobody rang.
            let _ = rustix::io::read(&self.pollable, &mut rings);
        }
        self.bell.flag.unpark();
    }
}
