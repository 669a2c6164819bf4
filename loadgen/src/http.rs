//! A small blocking HTTP/1.1 client: one keep-alive connection, one request at a time.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest body of an answer; /metrics of many shards is the longest.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Read at a time.
const READ_BYTES: usize = 16 * 1024;

/// A keep-alive connection.
#[derive(Debug)]
pub struct HttpConnection {
    stream: TcpStream,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// GET or POST.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// The Host header.
    pub host: &'a str,
    /// More headers, each a whole line with its CRLF.
    pub headers: &'a str,
    /// The body; `None` sends none.
    pub body: Option<&'a [u8]>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Retry-After, if it was given in seconds.
    pub retry_after: Option<Duration>,
    /// False if the server closes the connection behind this answer.
    pub keep_alive: bool,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum HttpError {
    /// The server cannot have got the whole request.
    NotSent(io::Error),
    /// The request went out; nobody knows what the server did with it.
    NoAnswer(io::Error),
}

impl HttpConnection {
    /// Connects. `timeout` also bounds each wait for an answer.
    pub fn open(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream })
    }

    /// True if the server has closed the connection, or sent what nobody asked for. Worth asking before
    /// a request: one written onto a closed connection would be left without an answer.
    pub fn is_stale(&self) -> bool {
        let peek = || {
            self.stream.set_nonblocking(true)?;
            let peeked = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            peeked
        };
        !matches!(peek(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request and reads its answer. After an error the connection is of no more use.
    pub fn request(&mut self, request: &Request<'_>) -> Result<Answer, HttpError> {
        self.stream
            .write_all(&encode(request))
            .map_err(HttpError::NotSent)?;
        self.read_answer().map_err(HttpError::NoAnswer)
    }

    fn read_answer(&mut self) -> io::Result<Answer> {
        let mut bytes = Vec::new();
        let head_len = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if bytes.len() > HEAD_BYTES_MAX {
                return Err(invalid("the answer's head is too long"));
            }
            self.read_more(&mut bytes)?;
        };
        let (mut answer, body) = parse_head(&bytes[..head_len])?;
        let mut rest = bytes.split_off(head_len);
        match body {
            Body::Length(len) => {
                while rest.len() < len {
                    self.read_more(&mut rest)?;
                }
                rest.truncate(len);
                answer.body = rest;
            }
            Body::Chunked => loop {
                if let Some(body) = dechunk(&rest)? {
                    answer.body = body;
                    break;
                }
                self.read_more(&mut rest)?;
            },
        }
        Ok(answer)
    }

    fn read_more(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let filled = bytes.len();
        bytes.resize(filled + READ_BYTES, 0);
        let read = self.stream.read(&mut bytes[filled..])?;
        bytes.truncate(filled + read);
        if read == 0 {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(())
        }
    }
}

fn encode(request: &Request<'_>) -> Vec<u8> {
    let Request {
        method,
        path,
        host,
        headers,
        body,
    } = request;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}");
    if let Some(body) = body {
        let len = body.len();
        head.push_str(&format!("Content-Length: {len}\r\n"));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// After so many bytes.
    Length(usize),
    /// With its last chunk.
    Chunked,
}

/// Puts a chunked body together (RFC 9112 7.1); `None` if more is to come. Trailers are not expected.
fn dechunk(mut bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
    if bytes.len() > BODY_BYTES_MAX {
        return Err(invalid("the answer's body is too long"));
    }
    let mut body = Vec::new();
    loop {
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&bytes[..end]).ok();
        let size = size.and_then(|size| size.split(';').next());
        let size = size.and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
        let size = size.filter(|size| *size <= BODY_BYTES_MAX);
        let size = size.ok_or_else(|| invalid("the answer's chunks are broken"))?;
        let Some((chunk, rest)) = bytes[end + 2..].split_at_checked(size) else {
            return Ok(None);
        };
        let Some(rest) = rest.get(2..) else {
            return Ok(None);
        };
        if size == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(chunk);
        bytes = rest;
    }
}

/// Reads a head up to its blank line; returns the answer without a body, and how the body ends.
fn parse_head(head: &[u8]) -> io::Result<(Answer, Body)> {
    let head = std::str::from_utf8(head).map_err(|_| invalid("the answer's head is not text"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(parse_status);
    let status = status.ok_or_else(|| invalid("the answer is not HTTP/1.1"))?;
    let mut answer = Answer {
        status,
        retry_after: None,
        keep_alive: true,
        body: Vec::new(),
    };
    let mut body = (status == 204).then_some(Body::Length(0));
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => body = value.parse::<usize>().ok().map(Body::Length),
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => {
                body = Some(Body::Chunked);
            }
            "connection" => answer.keep_alive = !value.eq_ignore_ascii_case("close"),
            "retry-after" => answer.retry_after = value.parse().ok().map(Duration::from_secs),
            _ => {}
        }
    }
    match body {
        Some(Body::Length(len)) if len > BODY_BYTES_MAX => {
            Err(invalid("the answer's body is too long"))
        }
        Some(body) => Ok((answer, body)),
        None => Err(invalid("the answer has no Content-Length")),
    }
}

fn parse_status(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.1 ")?;
    rest.get(..3)?.parse().ok()
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn heads_are_read() {
        let head = b"HTTP/1.1 503 Busy\r\nRetry-After: 2\r\ncontent-length: 5\r\nConnection: Close\r\n\r\n";
        let (answer, body) = parse_head(head).unwrap();
        assert_eq!((answer.status, body), (503, Body::Length(5)));
        assert_eq!(answer.retry_after, Some(Duration::from_secs(2)));
        assert!(!answer.keep_alive);
        for bad in [
            "",
            "HTTP/1.0 200 OK\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 \u{e9}\u{e9}\r\n",
        ] {
            assert!(parse_head(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let long = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n";
        assert!(parse_head(long).is_err());
    }

    #[test]
    fn bodies_end_in_more_than_one_way() {
        let (_, body) = parse_head(b"HTTP/1.1 204 Nothing\r\n\r\n").unwrap();
        assert_eq!(body, Body::Length(0));
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(parse_head(head).unwrap().1, Body::Chunked);
        let chunks = b"2;x=y\r\nab\r\nA\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(dechunk(chunks).unwrap().unwrap(), b"ab0123456789");
        for cut in 0..chunks.len() {
            assert_eq!(dechunk(&chunks[..cut]).unwrap(), None, "{cut}");
        }
        for bad in ["x\r\n", "fffffffff\r\n", "-1\r\n"] {
            assert!(dechunk(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_connection_serves_many_requests_until_the_server_closes_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 1024];
            for answer in [
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
                "HTTP/1.1 200 OK\r\nCont",
            ] {
                let read = stream.read(&mut buffer).unwrap();
                assert!(
                    buffer[..read].starts_with(b"POST /x HTTP/1.1\r\nHost: h\r\nX-API-Key: k\r\n")
                );
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut connection = HttpConnection::open(address, Duration::from_secs(10)).unwrap();
        let request = Request {
            method: "POST",
            path: "/x",
            host: "h",
            headers: "X-API-Key: k\r\n",
            body: Some(b"b"),
        };
        assert!(!connection.is_stale());
        assert_eq!(connection.request(&request).unwrap().body, b"hi");
        assert!(matches!(
            connection.request(&request),
            Err(HttpError::NoAnswer(_))
        ));
        server.join().unwrap();
        assert!(connection.is_stale());
    }
}
