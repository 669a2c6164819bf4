//! Turns of shards that share a core.

use super::atomic::{AtomicU32, Ordering, fence};

/// Held by one shard of a core at a time, while it makes a long pass; the others queue for it.
///
/// Nobody waits: who is not at the front is told by the one before. The one who queues writes its number
/// and *then* looks who is at the front; the one who passes on moves the front and *then* looks who is
/// there. So at least one of both sees the other (`tests/baton_model.rs` tries the interleavings), and
/// if both do, the message finds a shard that has begun already.
#[derive(Debug)]
pub struct Baton {
    /// Tickets given out.
    queued: AtomicU32,
    /// The ticket that holds the baton, or will when it is given out.
    front: AtomicU32,
    /// By ticket, modulo the length: the shard's number and 1; 0 for nobody. A shard has one ticket at
    /// most, so a place for each is enough.
    queue: Box<[AtomicU32]>,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u32);

impl Baton {
    /// For `shards` shards; the length of the queue is a power of two, so that tickets may wrap round.
    pub fn new(shards: usize) -> Self {
        let places = shards.max(1).next_power_of_two();
        Self {
            queued: AtomicU32::new(0),
            front: AtomicU32::new(0),
            queue: (0..places).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Queues the shard numbered `shard`, which must not have a ticket. Look at [`Self::is_turn`] next.
    pub fn queue(&self, shard: u16) -> Ticket {
        let ticket = self.queued.fetch_add(1, Ordering::AcqRel);
        self.place(ticket)
            .store(u32::from(shard) + 1, Ordering::Release);
        fence(Ordering::SeqCst);
        Ticket(ticket)
    }

    /// True if the ticket's shard holds the baton.
    pub fn is_turn(&self, ticket: Ticket) -> bool {
        self.front.load(Ordering::Acquire) == ticket.0
    }

    /// Gives up `ticket`, which holds the baton. Returns the shard that must be told it is its turn, if
    /// one has queued.
    pub fn pass_on(&self, ticket: Ticket) -> Option<u16> {
        self.place(ticket.0).store(0, Ordering::Release);
        let next = ticket.0.wrapping_add(1);
        self.front.store(next, Ordering::Release);
        fence(Ordering::SeqCst);
        let shard = self.place(next).load(Ordering::Acquire);
        shard.checked_sub(1).map(|shard| shard as u16)
    }

    fn place(&self, ticket: u32) -> &AtomicU32 {
        &self.queue[ticket as usize & (self.queue.len() - 1)]
    }
}
