//! What one direction of a connection remembers between messages (RFC 7692 section 7.1.1).

use super::WINDOW_BITS_MAX;
use crate::proto::message::append;

/// The last bytes of the compressed messages that went one way, for the messages to come to refer
/// to. Only a direction whose context is taken over has one.
///
/// It takes no more memory than bytes have passed, and at most 2^`window_bits`.
#[derive(Debug)]
pub struct SlidingWindow {
    bytes: Vec<u8>,
    window_bits: u8,
}

impl SlidingWindow {
    /// An empty window of 2^`window_bits` bytes: 8 to 15, as agreed.
    pub const fn new(window_bits: u8) -> Self {
        Self {
            bytes: Vec::new(),
            window_bits,
        }
    }

    /// The window bits it was made with.
    pub const fn window_bits(&self) -> u8 {
        self.window_bits
    }

    /// Heap bytes held.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// What it remembers, oldest byte first.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Remembers a message that went compressed.
    pub fn push(&mut self, message: &[u8]) {
        let len_max = 1usize << self.window_bits.min(WINDOW_BITS_MAX);
        let newest = message.len().saturating_sub(len_max);
        let message = message.get(newest..).unwrap_or_default();
        let forgotten = (self.bytes.len() + message.len()).saturating_sub(len_max);
        self.bytes.drain(..forgotten);
        append(&mut self.bytes, message, len_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_last_bytes_and_no_more() {
        let mut window = SlidingWindow::new(8);
        assert_eq!(window.heap_bytes(), 0);
        let stream: Vec<u8> = (0..5000u32).map(|n| (n % 251) as u8).collect();
        let mut passed = 0;
        for len in [3, 0, 200, 60, 1, 255, 256, 257, 1000, 2] {
            window.push(&stream[passed..passed + len]);
            passed += len;
            assert_eq!(
                window.as_slice(),
                &stream[passed.saturating_sub(256)..passed]
            );
            assert!(window.heap_bytes() <= 256.min(2 * passed));
        }
    }
}
