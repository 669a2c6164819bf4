//! Payload in, compressed frame out (RFC 7692 section 7.2.1).

use std::fmt;

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Status};

use super::window::SlidingWindow;
use super::{FLUSH_TAIL, RETAINED_BYTES_MAX, WINDOW_BITS_MAX};
use crate::proto::frame::{Opcode, encode_compressed_frame};

/// zlib does not deflate with a window of 8 bits. One of 9 does as well: zlib looks back its window
/// less 262 bytes, so 250 here, which a window of 8 bits holds.
const ZLIB_WINDOW_BITS_MIN: u8 = 9;

/// Measured on JSON of 1 and 16 KiB: within 4 % of the size that level 6 gives, 16 KiB in 60 % of
/// its time; level 1 is twice as fast again, and 40 to 60 % larger.
const LEVEL: i32 = 4;

/// Measured: 100 KB less than zlib's default of 8, faster, and the same size.
const MEM_LEVEL: i32 = 5;

/// Compresses the messages to any number of connections, one at a time; a thread needs one.
///
/// A new one is empty. It comes to hold a state for each size of window in use (151 KB for 9 bits,
/// 165 KB for 12, 280 KB for 15) and one compressed message.
#[derive(Default)]
pub struct Deflater {
    /// By window bits, from 9.
    states: [Option<Deflate>; (WINDOW_BITS_MAX - ZLIB_WINDOW_BITS_MIN + 1) as usize],
    compressed: Vec<u8>,
}

impl Deflater {
    /// Appends a server's frame with the compressed `payload`, which any connection whose server
    /// window has at least `window_bits` (8 to 15) can read. `false`: nothing was appended, because
    /// it would not be smaller than the payload.
    pub fn encode_frame(
        &mut self,
        out: &mut Vec<u8>,
        opcode: Opcode,
        payload: &[u8],
        window_bits: u8,
    ) -> bool {
        let compressed = self.compress(payload, window_bits, &[]);
        if let Some(compressed) = compressed {
            encode_compressed_frame(out, opcode, None, compressed);
        }
        compressed.is_some()
    }

    /// Appends a server's frame with the compressed `payload`, for the one connection whose messages
    /// `window` remembers. `false`: nothing was appended, because it would not be smaller; the window
    /// is as it was, and the message must go uncompressed.
    pub fn encode_frame_with_takeover(
        &mut self,
        out: &mut Vec<u8>,
        opcode: Opcode,
        payload: &[u8],
        window: &mut SlidingWindow,
    ) -> bool {
        let compressed = self.compress(payload, window.window_bits(), window.as_slice());
        if let Some(compressed) = compressed {
            encode_compressed_frame(out, opcode, None, compressed);
            window.push(payload);
            return true;
        }
        false
    }

    /// Compresses a payload, with a window of `window_bits` (8 to 15), as if `context` had been sent
    /// before. `None`: it would not be smaller than the payload.
    pub fn compress(&mut self, payload: &[u8], window_bits: u8, context: &[u8]) -> Option<&[u8]> {
        let bits = window_bits.clamp(ZLIB_WINDOW_BITS_MIN, WINDOW_BITS_MAX);
        let state = self
            .states
            .get_mut(usize::from(bits - ZLIB_WINDOW_BITS_MIN))?;
        let state = state.get_or_insert_with(|| new_state(bits));
        state.reset();
        if !context.is_empty() {
            state.set_dictionary(context).ok()?;
        }
        // A buffer that zlib fills is one too small for something smaller than the payload.
        let len = payload.len() + FLUSH_TAIL.len();
        if self.compressed.len() < len || self.compressed.len() > RETAINED_BYTES_MAX.max(len) {
            self.compressed = vec![0; len];
        }
        let buffer = self.compressed.get_mut(..len)?;
        match state.compress(payload, buffer, DeflateFlush::SyncFlush) {
            Ok(Status::Ok) => {}
            _ => return None,
        }
        let made = usize::try_from(state.total_out()).ok()?;
        match buffer.get(..made)?.strip_suffix(&FLUSH_TAIL) {
            Some(compressed) if made < len => Some(compressed),
            _ => None,
        }
    }
}

fn new_state(window_bits: u8) -> Deflate {
    Deflate::new_with_config(DeflateConfig {
        level: LEVEL,
        // Negative: neither header nor checksum.
        window_bits: -i32::from(window_bits),
        mem_level: MEM_LEVEL,
        ..DeflateConfig::default()
    })
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states = self.states.iter().filter(|state| state.is_some()).count();
        f.debug_struct("Deflater")
            .field("states", &states)
            .field("compressed", &self.compressed.len())
            .finish()
    }
}
