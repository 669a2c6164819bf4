//! Waiting for many sockets at once.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};

use super::Pollable;
use super::ring::{COMPLETION_ENTRIES, RingRefused, SUBMISSION_ENTRIES};

/// Polls sockets in a ring of its own: one poll each, armed until the socket is ready once.
///
/// The thread's [`super::Runtime`] polls that ring in turn, so one task waits for every socket. A task
/// of its own for each costs some 340 bytes more per socket: the task, two counted references and the
/// runtime's note of the operation. A wait is forgotten by the kernel when its socket is shut down.
pub struct Watch {
    ring: IoUring,
}

/// Names a wait; comes back with its end. The highest bit is the direction's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(u64);

/// What was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Bytes, the end of the stream, or an error.
    Read,
    /// Room for bytes, or an error.
    Write,
}

/// A wait that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Which one.
    pub token: Token,
    /// False if the ring could not wait: nothing is known of the socket.
    pub waited: bool,
}

const WRITE: u64 = 1 << 63;

impl Token {
    /// A wait in `direction` that is called `id`, below 2^63.
    pub fn new(id: u64, direction: Direction) -> Self {
        match direction {
            Direction::Read => Self(id & !WRITE),
            Direction::Write => Self(id | WRITE),
        }
    }

    /// What it is called.
    pub fn id(self) -> u64 {
        self.0 & !WRITE
    }

    /// What is waited for.
    pub fn direction(self) -> Direction {
        match self.0 & WRITE {
            0 => Direction::Read,
            _ => Direction::Write,
        }
    }
}

impl Watch {
    /// Makes the ring. Must be called on a thread that runs a [`super::Runtime`], and with the file
    /// table the sockets will be in.
    pub fn new() -> Result<Self, RingRefused> {
        let mut builder = IoUring::builder();
        builder
            .setup_coop_taskrun()
            .setup_single_issuer()
            .setup_cqsize(COMPLETION_ENTRIES);
        let ring = builder.build(SUBMISSION_ENTRIES).map_err(RingRefused)?;
        Ok(Self { ring })
    }

    /// Begins a wait. It must not be repeated before it is over.
    ///
    /// # Errors
    /// The ring has no room and the kernel takes nothing from it: it is out of memory.
    pub fn wait(&mut self, socket: &impl AsFd, token: Token) -> io::Result<()> {
        let events = match token.direction() {
            Direction::Read => rustix::event::PollFlags::IN,
            Direction::Write => rustix::event::PollFlags::OUT,
        };
        let fd = Fd(socket.as_fd().as_raw_fd());
        let poll = opcode::PollAdd::new(fd, u32::from(events.bits()))
            .build()
            .user_data(token.0);
        if self.push(&poll) {
            return Ok(());
        }
        self.ring.submit()?;
        match self.push(&poll) {
            true => Ok(()),
            false => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }

    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: a poll refers to no memory of this process, so it can outlive everything here.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Hands waits that began to the kernel. Those it does not take now go with the next call.
    pub fn submit(&mut self) {
        let queue = self.ring.submission();
        if !queue.is_empty() || queue.cq_overflow() {
            drop(queue);
            // Fails for want of memory, or while completions have overflown: the entries stay queued.
            let _ = self.ring.submit();
        }
    }

    /// Adds waits that are over to `ready`, in the order they ended, up to `most`. Submits too. False if
    /// there are none.
    pub fn take(&mut self, ready: &mut Vec<Ready>, most: usize) -> bool {
        self.submit();
        let before = ready.len();
        ready.extend(self.ring.completion().take(most).map(|completion| Ready {
            token: Token(completion.user_data()),
            waited: completion.result() >= 0,
        }));
        ready.len() > before
    }

    /// What a task waits for until [`Self::take`] has something to give.
    pub fn bell(&self) -> io::Result<Pollable> {
        self.ring
            .as_fd()
            .try_clone_to_owned()
            .and_then(Pollable::from_fd)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::Shutdown;

    use super::*;
    use crate::net::build_runtime;
    use crate::net::testing::{PATIENCE, pair};

    /// Runs `test` in a thread that has a runtime and a watch.
    fn with_watch(test: impl AsyncFnOnce(&mut Watch)) {
        build_runtime().unwrap().block_on(async {
            let mut watch = Watch::new().unwrap();
            test(&mut watch).await;
        });
    }

    /// The next `count` waits that are over, as a shard's task gets them.
    async fn taken(watch: &mut Watch, count: usize) -> Vec<Ready> {
        let bell = watch.bell().unwrap();
        let mut ready = Vec::new();
        watch.submit();
        while ready.len() < count {
            let rung = monoio::time::timeout(PATIENCE, bell.readable()).await;
            rung.expect("nothing got ready").unwrap();
            watch.take(&mut ready, usize::MAX);
        }
        ready
    }

    #[test]
    fn a_token_says_what_it_was_made_of() {
        for direction in [Direction::Read, Direction::Write] {
            let token = Token::new((1 << 63) - 5, direction);
            assert_eq!((token.id(), token.direction()), ((1 << 63) - 5, direction));
        }
    }

    #[test]
    fn every_socket_of_a_burst_is_reported_once() {
        const SOCKETS: usize = 500;
        with_watch(async |watch| {
            let mut pairs: Vec<_> = std::iter::repeat_with(pair).take(SOCKETS).collect();
            for (id, (_, near)) in pairs.iter().enumerate() {
                let token = Token::new(id as u64, Direction::Read);
                watch.wait(near, token).unwrap();
            }
            watch.submit();
            assert!(!watch.take(&mut Vec::new(), 1), "nobody has said anything");
            for (far, _) in &mut pairs {
                far.write_all(b"x").unwrap();
            }
            let ready = taken(watch, SOCKETS).await;
            assert!(ready.iter().all(|ready| ready.waited));
            let mut ids: Vec<u64> = ready.iter().map(|ready| ready.token.id()).collect();
            ids.sort_unstable();
            assert!(ids.into_iter().eq(0..SOCKETS as u64));
        });
    }

    #[test]
    fn bytes_that_were_there_before_the_wait_end_it() {
        with_watch(async |watch| {
            let (mut far, near) = pair();
            far.write_all(b"x").unwrap();
            watch.wait(&near, Token::new(7, Direction::Read)).unwrap();
            watch.wait(&near, Token::new(7, Direction::Write)).unwrap();
            let ready = taken(watch, 2).await;
            let has = |direction| {
                let token = Token::new(7, direction);
                ready.contains(&Ready {
                    token,
                    waited: true,
                })
            };
            assert!(has(Direction::Read) && has(Direction::Write));
        });
    }

    /// A wait holds its socket open; only because a shutdown ends it does closing the descriptor close
    /// the connection.
    #[test]
    fn a_socket_that_was_shut_down_is_closed_with_its_descriptor() {
        for how in [Shutdown::Read, Shutdown::Both] {
            with_watch(async |watch| {
                let (mut far, near) = pair();
                watch.wait(&near, Token::new(1, Direction::Read)).unwrap();
                watch.submit();
                near.reset_on_close();
                near.shutdown(how);
                drop(near);
                taken(watch, 1).await;
                let end = far.read(&mut [0; 8]);
                let is_reset =
                    matches!(&end, Err(error) if error.kind() == io::ErrorKind::ConnectionReset);
                assert!(
                    is_reset || (how == Shutdown::Both && matches!(end, Ok(0))),
                    "{end:?}"
                );
            });
        }
    }

    #[test]
    fn what_cannot_be_waited_for_is_said() {
        // Nobody else takes the number that becomes free.
        crate::net::own_file_table().unwrap();
        with_watch(async |watch| {
            let (_far, near) = pair();
            let token = Token::new(3, Direction::Read);
            watch.wait(&near, token).unwrap();
            // Not submitted yet: its descriptor is gone when the kernel looks.
            drop(near);
            let ready = taken(watch, 1).await;
            assert_eq!(
                ready,
                [Ready {
                    token,
                    waited: false
                }]
            );
        });
    }
}
