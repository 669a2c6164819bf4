//! HTTP/1.1 as a server reads and writes it (RFC 9112), strictly: what two readers could take
//! differently is refused.

mod body;
mod chunk;
mod forwarded;
mod head;
mod request;
mod response;

pub use body::{ChunkStep, ChunkedReader};
pub use chunk::{LAST_CHUNK, append_chunk};
pub use forwarded::forwarded_for;
pub use head::{HeadLimits, HeadScanner};
pub use request::{BodyLength, Method, Request, Version, decode_segment, parse_request};
pub use response::{CONTINUE, ConnectionHeader, Response, write_response, write_stream_head};

/// A refused request: the answer's status and a reason for its body. The text is fixed, never the
/// request's own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpError {
    /// The status to answer with; the connection closes after it.
    pub status: u16,
    /// One line.
    pub reason: &'static str,
}

impl HttpError {
    pub(super) const fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason }
    }

    pub(super) const fn bad_request(reason: &'static str) -> Self {
        Self::new(400, reason)
    }

    /// The headers that an answer with this status must carry: 426 says what to upgrade to (RFC
    /// 9110 section 15.5.22, RFC 6455 section 4.4).
    pub const fn headers(&self) -> &'static [(&'static str, &'static str)] {
        match self.status {
            426 => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
            _ => &[],
        }
    }
}
