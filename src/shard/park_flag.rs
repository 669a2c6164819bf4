//! Whether the owner of a queue sleeps: the handshake between it and those who push to the queue.

use super::atomic::{AtomicBool, Ordering, fence};

/// A Dekker handshake: the owner announces its sleep and *then* looks at the queue again; a sender
/// pushes and *then* looks whether the owner sleeps. The fence between the two steps on both sides
/// makes it impossible that both look too early, which would be a lost wake. Every interleaving is
/// tried in `tests/park_flag_model.rs`.
#[derive(Debug)]
pub struct ParkFlag(AtomicBool);

impl Default for ParkFlag {
    fn default() -> Self {
        Self(AtomicBool::new(false))
    }
}

impl ParkFlag {
    /// The owner is about to sleep. It must look at its queue after this.
    pub fn park(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The owner is awake.
    pub fn unpark(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// A sender has pushed. True if it must ring; of several senders one is told so.
    pub fn must_ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}
