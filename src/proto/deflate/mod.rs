//! permessage-deflate: messages compressed with DEFLATE (RFC 7692).
//!
//! | module | section | from → to |
//! |---|---|---|
//! | `extensions` | RFC 6455 9.1 | `Sec-WebSocket-Extensions` lines → extensions and parameters |
//! | `negotiation` | 7.1 | offers → parameters both sides keep to; and the client's side of it |
//! | `deflater` | 7.2.1 | payload → compressed frame |
//! | `inflater` | 7.2.2 | compressed pieces → payload, bounded |
//! | `window` | 7.1.1 | what one direction remembers when its context is taken over |
//!
//! No connection owns a zlib state. One [`Inflater`] and one [`Deflater`] serve all connections of
//! a thread, and start afresh with every message. Where context takeover was agreed, a connection
//! keeps the last bytes of its messages in a [`SlidingWindow`] for each such direction, which is
//! handed to zlib as a dictionary: at most 2^window_bits bytes in place of 47 KB of inflate and
//! 151 to 280 KB of deflate state. With a full window that costs up to 0.6 µs a message to inflate;
//! to deflate, 2 to 3 µs with a window of 9 or 10 bits, 5 µs with 12 and 25 µs with 15.
//!
//! A cut message is held compressed up to 4 KiB and inflated as it comes from then on. Only in
//! this time does a connection hold an inflate state.

mod deflater;
mod extensions;
pub(super) mod inflater;
mod negotiation;
mod window;

pub use deflater::Deflater;
pub use inflater::{Inflater, Inflation};
pub use negotiation::{DeflateOffer, DeflateParams, DeflatePolicy, InvalidAnswer, negotiate};
pub use window::SlidingWindow;

/// The largest window: 32 KiB, also where nothing else is agreed.
pub const WINDOW_BITS_MAX: u8 = 15;

/// What a flush leaves at the end of compressed data; it is not sent (RFC 7692 section 7.2.1).
const FLUSH_TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Working buffers above this are freed rather than kept for the next message.
const RETAINED_BYTES_MAX: usize = 64 * 1024;
