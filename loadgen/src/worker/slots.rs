//! A thread's open connections by number, and what could not be sent on them yet.

use std::io;
use std::net::Shutdown;
use std::rc::Rc;

use longwire::net::Stream;

use crate::counters::Cause;

/// Control frames that may wait for a server that does not read; one that leaves more is given up.
const WAITING_REPLIES_BYTES_MAX: usize = 64 * 1024;

/// The connections of a thread.
#[derive(Default)]
pub struct Slots {
    slots: Vec<Slot>,
    open: usize,
}

/// A connection's place; stays when the connection ends.
#[derive(Default)]
struct Slot {
    stream: Option<Rc<Stream>>,
    /// Behind what the kernel took. Empty without memory most of the time.
    unsent: Vec<u8>,
    /// It goes on purpose.
    leaving: bool,
}

/// What became of bytes to send.
pub enum Sent {
    /// The kernel has them, or they wait behind others that somebody is sending.
    Done,
    /// Some are left: somebody has to go on when this stream is writable.
    Left(Rc<Stream>),
}

impl Slots {
    /// Places for `count` connections.
    pub fn new(count: usize) -> Self {
        Self {
            slots: std::iter::repeat_with(Slot::default).take(count).collect(),
            open: 0,
        }
    }

    /// Open connections.
    pub fn open_count(&self) -> usize {
        self.open
    }

    /// True while a connection lives.
    pub fn is_open(&self, number: usize) -> bool {
        self.slots[number].stream.is_some()
    }

    /// True while `stream` is the connection in this place.
    pub fn holds(&self, number: usize, stream: &Rc<Stream>) -> bool {
        let now = self.slots[number].stream.as_ref();
        now.is_some_and(|now| Rc::ptr_eq(now, stream))
    }

    /// Takes over a connection.
    pub fn fill(&mut self, number: usize, stream: Rc<Stream>) {
        self.slots[number].stream = Some(stream);
        self.open += 1;
    }

    /// Lets go of a connection whose task ends; true if it went on purpose.
    pub fn vacate(&mut self, number: usize) -> bool {
        self.open -= 1;
        std::mem::take(&mut self.slots[number]).leaving
    }

    /// True if a connection goes on purpose.
    pub fn is_leaving(&self, number: usize) -> bool {
        self.slots[number].leaving
    }

    /// Notes that a connection goes on purpose, and gives it; `None` if it is not open.
    pub fn start_leaving(&mut self, number: usize) -> Option<Rc<Stream>> {
        let slot = &mut self.slots[number];
        let stream = slot.stream.as_ref().map(Rc::clone)?;
        slot.leaving = true;
        Some(stream)
    }

    /// Resets a connection as soon as its task looks; false if it is not open.
    pub fn reset(&mut self, number: usize) -> bool {
        let slot = &mut self.slots[number];
        let Some(stream) = &slot.stream else {
            return false;
        };
        slot.leaving = true;
        stream.reset_on_close();
        // Wakes the task without a word to the server. Whoever waits to send wakes up only if that
        // direction ends too.
        stream.shutdown(if slot.unsent.is_empty() {
            Shutdown::Read
        } else {
            Shutdown::Both
        });
        true
    }

    /// All open connections.
    pub fn streams(&self) -> impl Iterator<Item = &Rc<Stream>> {
        self.slots.iter().filter_map(|slot| slot.stream.as_ref())
    }

    /// Sends a control frame, behind whatever waits.
    pub fn reply(&mut self, number: usize, frame: &[u8]) -> Result<Sent, Cause> {
        if self.slots[number].unsent.len() > WAITING_REPLIES_BYTES_MAX {
            return Err(Cause::NotReading);
        }
        self.send(number, frame)
    }

    /// Sends, behind whatever waits. Nothing is sent on a connection that has ended.
    pub fn send(&mut self, number: usize, bytes: &[u8]) -> Result<Sent, Cause> {
        let slot = &mut self.slots[number];
        let Some(stream) = &slot.stream else {
            return Ok(Sent::Done);
        };
        if !slot.unsent.is_empty() {
            slot.unsent.extend_from_slice(bytes);
            return Ok(Sent::Done);
        }
        let sent = offer(stream, bytes)?;
        if sent == bytes.len() {
            return Ok(Sent::Done);
        }
        slot.unsent.extend_from_slice(&bytes[sent..]);
        Ok(Sent::Left(Rc::clone(stream)))
    }

    /// Goes on sending what waits on `stream`; true if nothing is left, or the connection is another by now.
    pub fn send_more(&mut self, number: usize, stream: &Rc<Stream>) -> Result<bool, Cause> {
        if !self.holds(number, stream) {
            return Ok(true);
        }
        let slot = &mut self.slots[number];
        let sent = offer(stream, &slot.unsent)?;
        if sent == slot.unsent.len() {
            // Not cleared but dropped: an idle connection keeps no buffer.
            slot.unsent = Vec::new();
            return Ok(true);
        }
        slot.unsent.drain(..sent);
        Ok(false)
    }

    /// Ends a connection from this side without a word; its task notices.
    pub fn shut_down(&self, number: usize) {
        if let Some(stream) = &self.slots[number].stream {
            stream.shutdown(Shutdown::Both);
        }
    }
}

/// Hands bytes to the kernel; returns how many it took.
fn offer(stream: &Stream, bytes: &[u8]) -> Result<usize, Cause> {
    match stream.try_send(bytes) {
        Ok(sent) => Ok(sent),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error.into()),
    }
}
