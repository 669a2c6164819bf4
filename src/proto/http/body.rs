//! The chunked transfer coding (RFC 9112 section 7.1).

use std::ops::Range;

use super::HttpError;

/// Hexadecimal digits of a chunk size, leading zeros included: they fill a `u64`.
const SIZE_DIGITS_MAX: u8 = 16;

/// Bytes of all chunk extensions of one body together; nothing here knows any.
const EXTENSION_BYTES_MAX: u16 = 256;

/// Bytes of all trailer lines of one body together; they are checked and dropped.
const TRAILER_BYTES_MAX: u16 = 4096;

/// What [`ChunkedReader::next`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkStep {
    /// Bytes taken from the front of the input.
    pub consumed: usize,
    /// Where in the input the next piece of the body lies; empty if no piece of it was there.
    pub data: Range<usize>,
    /// The body has ended, with the last byte consumed.
    pub done: bool,
}

/// Decodes one chunked body from pieces of any size. It does not limit the body: the caller counts
/// what it keeps.
///
/// Strict where readers are known to differ: lines end in CRLF, nothing but an extension follows a
/// size, extensions and trailers hold no control byte but a tab.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChunkedReader {
    state: State,
    extension_bytes: u16,
    trailer_bytes: u16,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A digit of a chunk size, or what ends it.
    Size { size: u64, digits: u8 },
    /// Within the extensions of a chunk.
    Extension { size: u64 },
    /// The line feed after a chunk size.
    SizeLf { size: u64 },
    /// One of `remaining` bytes of data; never zero.
    Data { remaining: u64 },
    /// The carriage return after the data.
    DataCr,
    /// The line feed after the data.
    DataLf,
    /// The first byte of a trailer line, or of the empty line that ends the body.
    TrailerStart,
    /// Within the name of a trailer.
    TrailerName,
    /// Within the value of a trailer.
    TrailerValue,
    /// The line feed after a trailer.
    TrailerLf,
    /// The line feed that ends the body.
    EndLf,
    /// Nothing.
    Done,
}

impl Default for State {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

impl ChunkedReader {
    /// A reader at the start of a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the front of `input`, up to and including one piece of data or the end of
    /// the body. It consumes nothing only when `input` is empty or the body has ended.
    ///
    /// # Errors
    /// 400 at the first byte that breaks the coding or a bound. The reader must not be called
    /// again.
    pub fn next(&mut self, input: &[u8]) -> Result<ChunkStep, HttpError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at)
            && self.state != State::Done
        {
            if let State::Data { remaining } = self.state {
                let available = input.len() - at;
                let taken = usize::try_from(remaining).map_or(available, |n| n.min(available));
                self.state = match remaining - taken as u64 {
                    0 => State::DataCr,
                    remaining => State::Data { remaining },
                };
                return Ok(ChunkStep {
                    consumed: at + taken,
                    data: at..at + taken,
                    done: false,
                });
            }
            self.state = self.after(byte)?;
            at += 1;
        }
        Ok(ChunkStep {
            consumed: at,
            data: at..at,
            done: self.state == State::Done,
        })
    }

    /// The state after one byte that is not data.
    fn after(&mut self, byte: u8) -> Result<State, HttpError> {
        match (self.state, byte) {
            (State::Size { size, digits }, _) => after_size_byte(size, digits, byte),
            (State::Extension { size }, b'\r') => Ok(State::SizeLf { size }),
            (State::Extension { size }, _) if is_text(byte) => {
                self.extension_bytes += 1;
                match self.extension_bytes {
                    ..=EXTENSION_BYTES_MAX => Ok(State::Extension { size }),
                    _ => Err(HttpError::bad_request("chunk extensions too long")),
                }
            }
            (State::SizeLf { size: 0 }, b'\n') => Ok(State::TrailerStart),
            (State::SizeLf { size }, b'\n') => Ok(State::Data { remaining: size }),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::default()),
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::EndLf, b'\n') => Ok(State::Done),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            _ => self.after_trailer_byte(byte),
        }
    }

    fn after_trailer_byte(&mut self, byte: u8) -> Result<State, HttpError> {
        self.trailer_bytes = self.trailer_bytes.saturating_add(1);
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(HttpError::bad_request("trailers too long"));
        }
        match (self.state, byte) {
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) => {
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_text(byte) => Ok(State::TrailerValue),
            _ => Err(HttpError::bad_request("malformed chunk")),
        }
    }
}

fn after_size_byte(size: u64, digits: u8, byte: u8) -> Result<State, HttpError> {
    match (char::from(byte).to_digit(16), byte) {
        (Some(_), _) if digits == SIZE_DIGITS_MAX => {
            Err(HttpError::bad_request("chunk size too long"))
        }
        (Some(digit), _) => Ok(State::Size {
            size: size << 4 | u64::from(digit),
            digits: digits + 1,
        }),
        (None, b'\r') if digits > 0 => Ok(State::SizeLf { size }),
        (None, b';') if digits > 0 => Ok(State::Extension { size }),
        _ => Err(HttpError::bad_request("malformed chunk size")),
    }
}

/// A byte that a line may hold: a tab or no control byte.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

/// A byte of a header name (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body, and how many bytes it took; the same for pieces of any size.
    fn read(input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, HttpError> {
        let whole = read_in_pieces(input, usize::MAX);
        for piece in 1..input.len().min(40) {
            assert_eq!(read_in_pieces(input, piece), whole, "pieces of {piece}");
        }
        whole
    }

    fn read_in_pieces(input: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, HttpError> {
        let mut reader = ChunkedReader::new();
        let mut body = Vec::new();
        let mut total = 0;
        for piece in input.chunks(piece) {
            let mut at = 0;
            while at < piece.len() {
                let step = reader.next(&piece[at..])?;
                body.extend(&piece[at..][step.data]);
                at += step.consumed;
                if step.done {
                    return Ok(Some((body, total + at)));
                }
            }
            total += at;
        }
        Ok(None)
    }

    fn refused(input: &[u8]) -> &'static str {
        let error = read(input).unwrap_err();
        assert_eq!(error.status, 400);
        error.reason
    }

    #[test]
    fn reads_chunks_extensions_and_trailers() {
        let body = |text: &[u8], len| Ok(Some((text.to_vec(), len)));
        assert_eq!(read(b"0\r\n\r\nGET"), body(b"", 5));
        assert_eq!(
            read(b"3\r\nabc\r\n0A;x=\"y\"\r\n0123456789\r\n000\r\n\r\n"),
            body(b"abc0123456789", 37)
        );
        assert_eq!(read(b"1\r\na\r\n0\r\nA: b\r\nC:\r\n\r\n"), body(b"a", 21));
        assert_eq!(read(b"5\r\nabc"), Ok(None));
        assert_eq!(read(b"ffffffffffffffff\r\nabc"), Ok(None));
    }

    #[test]
    fn refuses_every_line_end_but_crlf() {
        for input in [
            &b"1\na"[..],
            b"1\rx",
            b"1\r\na\n",
            b"1\r\nab",
            b"1\r\na\rx",
            b"0\r\n\n",
            b"0\r\n\rx",
            b"0\r\nA: b\n",
            b"0\r\nA: b\rc",
            b"1;x\n",
            b"1;x\ry",
        ] {
            assert!(refused(input).starts_with("malformed chunk"));
        }
    }

    #[test]
    fn refuses_sizes_that_readers_take_differently() {
        for input in [
            "\r\n", ";x\r\n", " 1\r\n", "1 \r\n", "+1\r\n", "-1\r\n", "0x1\r\n", "1_0\r\n", "g\r\n",
        ] {
            assert_eq!(refused(input.as_bytes()), "malformed chunk size", "{input}");
        }
        assert_eq!(refused(b"00000000000000001"), "chunk size too long");
    }

    #[test]
    fn bounds_what_it_drops() {
        let extended = |len: usize| format!("1;{}\r\na\r\n0;\r\n\r\n", "x".repeat(len));
        assert!(read(extended(256).as_bytes()).unwrap().is_some());
        assert_eq!(
            refused(extended(257).as_bytes()),
            "chunk extensions too long"
        );
        let trailed = |len: usize| format!("0\r\nA:{}\r\n\r\n", "x".repeat(len));
        assert!(read(trailed(4000).as_bytes()).unwrap().is_some());
        assert_eq!(refused(trailed(5000).as_bytes()), "trailers too long");
    }

    #[test]
    fn refuses_malformed_trailers() {
        for input in [
            "0\r\n A: b\r\n",
            "0\r\nA : b\r\n",
            "0\r\nA\r\n",
            "0\r\n:b\r\n",
            "0\r\nA: \0\r\n",
        ] {
            assert_eq!(refused(input.as_bytes()), "malformed chunk", "{input}");
        }
    }
}
