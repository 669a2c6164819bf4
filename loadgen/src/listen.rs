//! Listening without a WebSocket: server-sent events and long polls, bytes in and bytes out.

use clap::ValueEnum;

use crate::counters::Cause;

/// How connections listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// Each is a WebSocket
    #[default]
    Websocket,
    /// Each is a stream of server-sent events
    Sse,
    /// Each asks again and again on one connection (long poll)
    Poll,
}

/// Seconds that a long poll waits, at the server's pleasure.
const WAIT_S: u32 = 60;
/// No answer and no line of the server is longer.
const INPUT_BYTES_MAX: usize = 1 << 20;

/// What a connection without a WebSocket found.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message, or an answer with any number of them.
    Data(Vec<u8>),
    /// A sign of life and nothing else.
    Beat,
}

/// Opens a request to listen at `path`. A poll first asks where the channel stands, without waiting.
pub fn first_request(transport: Transport, host: &str, path: &str) -> Vec<u8> {
    match transport {
        Transport::Poll => request(host, &with_query(path, "wait=0"), "application/json"),
        _ => request(host, path, "text/event-stream"),
    }
}

fn next_poll(host: &str, path: &str, position: &str) -> Vec<u8> {
    let query = format!("wait={WAIT_S}&since={position}");
    request(host, &with_query(path, &query), "application/json")
}

fn with_query(path: &str, query: &str) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}{query}")
}

fn request(host: &str, path: &str, accept: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n").into_bytes()
}

/// The head of an answer.
struct Head {
    length: usize,
    content_length: usize,
    position: Option<String>,
}

/// Reads a head, if it is whole.
fn read_head(input: &[u8]) -> Result<Option<Head>, Cause> {
    let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&input[..end]).map_err(|_| Cause::BadHandshake)?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status: u16 = status
        .and_then(|status| status.parse().ok())
        .ok_or(Cause::BadHandshake)?;
    let field = |wanted: &str| {
        let fields = text.split("\r\n").filter_map(|line| line.split_once(": "));
        let mut named = fields.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.next().map(|(_, value)| value)
    };
    if !matches!(status, 200 | 204) {
        let retry_after = field("retry-after").and_then(|seconds| seconds.parse().ok());
        return Err(Cause::Http(status, retry_after));
    }
    let content_length = field("content-length").and_then(|bytes| bytes.parse().ok());
    Ok(Some(Head {
        length: end + 4,
        content_length: content_length.unwrap_or_default(),
        position: field("longwire-position").map(str::to_owned),
    }))
}

/// One connection's side of it: what it has received in part.
#[derive(Debug)]
pub struct Listener {
    transport: Transport,
    host: String,
    path: String,
    input: Vec<u8>,
    is_open: bool,
}

impl Listener {
    /// Of a connection that has sent its [`first_request`].
    pub fn new(transport: Transport, host: String, path: String) -> Self {
        Self {
            transport,
            host,
            path,
            input: Vec::new(),
            is_open: false,
        }
    }

    /// True once the server has agreed.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Takes bytes; `heard` is called for what they complete. What is to be sent in return, often nothing.
    pub fn absorb(&mut self, bytes: &[u8], mut heard: impl FnMut(Heard)) -> Result<Vec<u8>, Cause> {
        self.input.extend_from_slice(bytes);
        if self.input.len() > INPUT_BYTES_MAX {
            return Err(Cause::BadHandshake);
        }
        match self.transport {
            Transport::Poll => self.absorb_answers(&mut heard),
            _ => self.absorb_lines(&mut heard).map(|()| Vec::new()),
        }
    }

    fn absorb_answers(&mut self, heard: &mut impl FnMut(Heard)) -> Result<Vec<u8>, Cause> {
        let Some(head) = read_head(&self.input)? else {
            return Ok(Vec::new());
        };
        let end = head.length + head.content_length;
        let Some(body) = self.input.get(head.length..end) else {
            return Ok(Vec::new());
        };
        // The first answer only says where the channel stands.
        if self.is_open {
            heard(Heard::Data(body.to_vec()));
        }
        self.is_open = true;
        self.input = Vec::new();
        let position = head.position.ok_or(Cause::BadHandshake)?;
        Ok(next_poll(&self.host, &self.path, &position))
    }

    fn absorb_lines(&mut self, heard: &mut impl FnMut(Heard)) -> Result<(), Cause> {
        if !self.is_open {
            let Some(head) = read_head(&self.input)? else {
                return Ok(());
            };
            self.is_open = true;
            self.input.drain(..head.length);
        }
        let whole = self.input.iter().rposition(|byte| *byte == b'\n');
        let rest = self.input.split_off(whole.map_or(0, |end| end + 1));
        for line in self.input.split(|byte| *byte == b'\n') {
            match line.strip_prefix(b"data: ") {
                Some(data) => heard(Heard::Data(data.to_vec())),
                None if line.starts_with(b":") => heard(Heard::Beat),
                None => {}
            }
        }
        self.input = rest;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(transport: Transport) -> Listener {
        Listener::new(transport, "h:1".to_owned(), "/channels/a".to_owned())
    }

    /// What is heard and sent if `bytes` come one by one.
    fn drip(listener: &mut Listener, bytes: &[u8]) -> (Vec<Heard>, String) {
        let (mut all, mut sent) = (Vec::new(), Vec::new());
        for byte in bytes {
            sent.extend(listener.absorb(&[*byte], |heard| all.push(heard)).unwrap());
        }
        (all, String::from_utf8(sent).unwrap())
    }

    #[test]
    fn events_are_taken_out_of_their_chunks() {
        let mut listener = listener(Transport::Sse);
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n\
            1b\r\nid: e:1\ndata: one\n\n\r\n3\r\n:\n\n\r\n";
        let (heard, sent) = drip(&mut listener, answer.as_bytes());
        assert!(listener.is_open());
        assert_eq!(heard, [Heard::Data(b"one".to_vec()), Heard::Beat]);
        assert_eq!(sent, "");
    }

    #[test]
    fn a_poll_goes_on_where_the_last_one_ended() {
        let mut listener = listener(Transport::Poll);
        let (heard, sent) = drip(
            &mut listener,
            b"HTTP/1.1 204 No Content\r\nLongwire-Position: e:7\r\n\r\n",
        );
        assert_eq!(heard, []);
        assert!(sent.starts_with("GET /channels/a?wait=60&since=e:7 HTTP/1.1\r\nHost: h:1\r\n"));
        let (heard, sent) = drip(
            &mut listener,
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nLongwire-Position: e:8\r\n\r\n[1]",
        );
        assert_eq!(heard, [Heard::Data(b"[1]".to_vec())]);
        assert!(sent.contains("since=e:8 "));
    }

    #[test]
    fn a_refusal_is_an_error() {
        let refusal = b"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\n\r\n";
        let error = listener(Transport::Sse).absorb(refusal, |_| ());
        assert!(matches!(error, Err(Cause::Http(503, Some(3)))));
        let nonsense = listener(Transport::Poll).absorb(b"hello\r\n\r\n", |_| ());
        assert!(matches!(nonsense, Err(Cause::BadHandshake)));
    }
}
