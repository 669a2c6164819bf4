//! Compressed pieces in, payload out: bounded while it inflates (RFC 7692 section 7.2.2).

use std::fmt;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::window::SlidingWindow;
use super::{FLUSH_TAIL, RETAINED_BYTES_MAX, WINDOW_BITS_MAX};
use crate::proto::close::CloseCode;
use crate::proto::message::{MESSAGE_TOO_BIG, Violation, append};
use crate::proto::utf8::Utf8Checker;

/// What is inflated between two looks at the limits.
const BLOCK_BYTES: usize = 4096;

/// Of a cut message, what is held compressed before it takes an inflate state. Without this, a
/// client could tie one down with a byte.
const HELD_BYTES_MAX: usize = 4 * 1024;

/// What zlib allocates for an inflate state: its tables, and a window of 32 KiB whatever is agreed.
const STATE_BYTES: usize = 47_552;

/// Final blocks (RFC 7692 section 7.2.3.4) that may lie within one message. After each of them zlib
/// starts over, which costs as much as inflating some kilobytes.
const FINAL_BLOCKS_MAX: u32 = 128;

/// An empty final block: only at a boundary between blocks does it end the data.
const END: [u8; 5] = [0x01, 0x00, 0x00, 0xff, 0xff];

/// Bytes that a compressed message may have on the wire, for a limit on its payload: twice that,
/// and 1 KiB. No compressor comes near it; it bounds blocks that inflate to nothing.
pub(in crate::proto) fn compressed_bytes_max(message_bytes: usize) -> usize {
    message_bytes.saturating_mul(2).saturating_add(1024)
}

/// Inflates the messages of any number of connections, one at a time; a thread needs one.
///
/// A new one is empty. It comes to hold an inflate state of 47 KB for the next message, and the
/// payload of the last one until then.
#[derive(Debug, Default)]
pub struct Inflater {
    state: Option<State>,
    /// Where zlib writes.
    block: Vec<u8>,
    /// The payload of the last message that came whole.
    message: Vec<u8>,
}

/// What a connection that has agreed on permessage-deflate needs to read compressed messages.
#[derive(Debug)]
pub struct Inflation<'a> {
    /// The thread's.
    pub inflater: &'a mut Inflater,
    /// The connection's, if the peer's context is taken over.
    pub window: Option<&'a mut SlidingWindow>,
}

impl<'a> Inflation<'a> {
    /// Inflates a message that came in one piece. The payload stays in the inflater.
    pub(in crate::proto) fn inflate(
        self,
        compressed: &[u8],
        is_text: bool,
        message_bytes: usize,
    ) -> Result<&'a [u8], Violation> {
        let Inflater {
            state,
            block,
            message,
        } = self.inflater;
        message.clear();
        message.shrink_to(RETAINED_BYTES_MAX);
        if compressed.is_empty() {
            return Ok(message);
        }
        let state = state.get_or_insert_with(State::new);
        let mut utf8 = Utf8Checker::new();
        let mut payload = Payload {
            bytes: message,
            utf8: is_text.then_some(&mut utf8),
            bytes_max: message_bytes,
        };
        let context = context(self.window.as_deref());
        state.begin(context);
        state.feed(compressed, block, context, &mut payload)?;
        state.finish(block, context, &mut payload)?;
        utf8.finish()?;
        if let Some(window) = self.window {
            window.push(message);
        }
        Ok(message)
    }
}

fn context(window: Option<&SlidingWindow>) -> &[u8] {
    window.map(SlidingWindow::as_slice).unwrap_or_default()
}

/// Where a message is inflated to, and what it must keep to.
pub(in crate::proto) struct Payload<'a> {
    pub bytes: &'a mut Vec<u8>,
    /// For a text.
    pub utf8: Option<&'a mut Utf8Checker>,
    pub bytes_max: usize,
}

impl Payload<'_> {
    /// How much may be inflated at once: one byte more than the limit shows that it is passed.
    fn block_len(&self) -> usize {
        let room = self.bytes_max.saturating_sub(self.bytes.len());
        BLOCK_BYTES.min(room.saturating_add(1))
    }

    fn take(&mut self, inflated: &[u8]) -> Result<(), Violation> {
        let room = self.bytes_max.saturating_sub(self.bytes.len());
        let allowed = inflated.get(..room).unwrap_or(inflated);
        if let Some(utf8) = &mut self.utf8 {
            utf8.feed(allowed)?;
        }
        if allowed.len() < inflated.len() {
            return Err(MESSAGE_TOO_BIG);
        }
        self.reserve(inflated.len());
        self.bytes.extend_from_slice(inflated);
        Ok(())
    }

    /// Grows by doubling up to an eighth of the limit, then to the limit at once: the copies of more
    /// doublings would take half as much again, and what is never written takes nothing.
    fn reserve(&mut self, additional: usize) {
        let needed = self.bytes.len().saturating_add(additional);
        if needed <= self.bytes.capacity() {
            return;
        }
        let capacity = match needed > self.bytes_max / 8 {
            true => self.bytes_max,
            false => needed.max(2 * self.bytes.capacity()),
        };
        self.bytes.reserve_exact(capacity - self.bytes.len());
    }
}

/// A compressed message that comes in pieces.
#[derive(Debug, Default)]
pub(in crate::proto) struct CutMessage {
    /// Compressed bytes received.
    received: usize,
    /// Those that came before there was a state.
    held: Vec<u8>,
    state: Option<State>,
}

impl CutMessage {
    /// Compressed bytes received.
    pub fn received(&self) -> usize {
        self.received
    }

    pub fn heap_bytes(&self) -> usize {
        let state = self.state.as_ref().map_or(0, |_| STATE_BYTES);
        size_of::<Self>() + self.held.capacity() + state
    }

    /// Takes the next piece. With the last one, the payload is whole.
    pub fn take(
        &mut self,
        piece: &[u8],
        is_last: bool,
        inflation: &mut Inflation,
        mut payload: Payload,
    ) -> Result<(), Violation> {
        self.received += piece.len();
        let fits = self.held.len() + piece.len() <= HELD_BYTES_MAX;
        if self.state.is_none() && fits && !is_last {
            append(&mut self.held, piece, HELD_BYTES_MAX);
            return Ok(());
        }
        // A compressor whose last flush had nothing to flush sends nothing for an empty message.
        if self.received > 0 {
            self.inflate(piece, is_last, inflation, &mut payload)?;
        }
        if is_last {
            if let Some(window) = &mut inflation.window {
                window.push(payload.bytes);
            }
            if let Some(state) = self.state.take() {
                inflation.inflater.state.get_or_insert(state);
            }
        }
        Ok(())
    }

    fn inflate(
        &mut self,
        piece: &[u8],
        is_last: bool,
        inflation: &mut Inflation,
        payload: &mut Payload,
    ) -> Result<(), Violation> {
        let context = context(inflation.window.as_deref());
        let Inflater { state, block, .. } = &mut *inflation.inflater;
        let state = self.state.get_or_insert_with(|| {
            let mut state = state.take().unwrap_or_else(State::new);
            state.begin(context);
            state
        });
        let held = std::mem::take(&mut self.held);
        state.feed(&held, block, context, payload)?;
        drop(held);
        state.feed(piece, block, context, payload)?;
        match is_last {
            true => state.finish(block, context, payload),
            false => Ok(()),
        }
    }
}

/// zlib's state for one message.
struct State {
    zlib: Inflate,
    /// The data ended with a final block; what follows begins anew.
    is_ended: bool,
    final_blocks: u32,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("State");
        shown.field("is_ended", &self.is_ended);
        shown.field("final_blocks", &self.final_blocks);
        shown.finish_non_exhaustive()
    }
}

impl State {
    fn new() -> Self {
        Self {
            zlib: Inflate::new(false, WINDOW_BITS_MAX),
            is_ended: false,
            final_blocks: 0,
        }
    }

    /// Forgets the last message, however it ended.
    fn begin(&mut self, context: &[u8]) {
        self.final_blocks = 0;
        self.start(context, &[]);
    }

    /// Starts at a boundary between blocks, after what was inflated before.
    fn start(&mut self, context: &[u8], message: &[u8]) {
        self.is_ended = false;
        self.zlib.reset(false);
        for earlier in [context, message] {
            if !earlier.is_empty() {
                // It cannot fail: raw deflate takes any dictionary, at any time.
                let _ = self.zlib.set_dictionary(earlier);
            }
        }
    }

    /// Inflates all of `compressed`.
    fn feed(
        &mut self,
        mut compressed: &[u8],
        block: &mut Vec<u8>,
        context: &[u8],
        payload: &mut Payload,
    ) -> Result<(), Violation> {
        block.resize(BLOCK_BYTES, 0);
        loop {
            if self.is_ended {
                if compressed.is_empty() {
                    return Ok(());
                }
                self.pass_final_block(context, payload.bytes)?;
            }
            let len = payload.block_len();
            let out = block.get_mut(..len).unwrap_or_default();
            let (taken, made) = (self.zlib.total_in(), self.zlib.total_out());
            let result = self.zlib.decompress(compressed, out, InflateFlush::NoFlush);
            let taken = (self.zlib.total_in() - taken) as usize;
            let made = (self.zlib.total_out() - made) as usize;
            compressed = compressed.get(taken..).unwrap_or_default();
            // First what came before the fault, so that how the data was cut does not matter.
            payload.take(out.get(..made).unwrap_or_default())?;
            match result {
                Ok(Status::StreamEnd) => self.is_ended = true,
                Ok(_) if made < len => return Ok(()),
                Ok(_) => {}
                Err(_) => return Err(NOT_DEFLATE),
            }
        }
    }

    /// Inflates what the sender left out at the end of the message, and checks that the data ends
    /// there.
    fn finish(
        &mut self,
        block: &mut Vec<u8>,
        context: &[u8],
        payload: &mut Payload,
    ) -> Result<(), Violation> {
        self.feed(&FLUSH_TAIL, block, context, payload)?;
        self.feed(&END, block, context, payload)?;
        match self.is_ended {
            true => Ok(()),
            false => Err(NOT_DEFLATE),
        }
    }

    fn pass_final_block(&mut self, context: &[u8], message: &[u8]) -> Result<(), Violation> {
        self.final_blocks += 1;
        if self.final_blocks > FINAL_BLOCKS_MAX {
            return Err(Violation {
                code: CloseCode::PolicyViolation,
                reason: "message of too many final blocks",
            });
        }
        self.start(context, message);
        Ok(())
    }
}

/// RFC 7692 names no code. 1007 says that the payload is not what its frame claims, and is what
/// other servers answer.
const NOT_DEFLATE: Violation = Violation::invalid_payload("compressed data is not DEFLATE");
