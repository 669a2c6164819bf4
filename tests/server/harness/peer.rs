//! One TCP connection to the server, with patience instead of hanging, and HTTP answers read from it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::{Metrics, PATIENCE, upgrade_request};

/// How the bytes of an input are cut into writes.
#[derive(Clone, Copy, Debug)]
pub enum Delivery {
    Whole,
    ByteByByte,
    /// So many bytes at a time.
    Chopped(usize),
}

impl Delivery {
    pub const BOTH: [Self; 2] = [Self::Whole, Self::ByteByByte];
}

/// How the server ended the TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Eof,
    Reset,
}

/// A client's end of one TCP connection.
pub struct Peer {
    stream: TcpStream,
    /// What was read and not yet taken.
    received: Vec<u8>,
}

impl Peer {
    pub fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).expect("connect")
    }

    /// Where a refusal may come before the connection is there on this side.
    pub fn try_connect(addr: SocketAddr) -> io::Result<Self> {
        TcpStream::connect_timeout(&addr, PATIENCE).map(Self::from_stream)
    }

    /// Connects from another of this machine's own IPv4 addresses; every one in 127.0.0.0/8 is.
    pub fn connect_from(own: Ipv4Addr, addr: SocketAddr) -> Self {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        let own = SocketAddr::from((own, 0));
        socket.bind(&own.into()).expect("bind");
        let connected = socket.connect_timeout(&addr.into(), PATIENCE);
        connected.expect("connect");
        Self::from_stream(socket.into())
    }

    fn from_stream(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Writes everything.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("write");
    }

    /// Writes until the server has had enough: it may well refuse an input and hang up before its end.
    pub fn offer(&mut self, bytes: impl AsRef<[u8]>, delivery: Delivery) {
        let chunk_bytes = match delivery {
            Delivery::Whole => usize::MAX,
            Delivery::ByteByByte => 1,
            Delivery::Chopped(bytes) => bytes,
        };
        for chunk in bytes.as_ref().chunks(chunk_bytes) {
            if self.stream.write_all(chunk).is_err() {
                return;
            }
        }
    }

    /// Sends a request without a body on this connection and reads the answer; `extra` holds whole header lines, each
    /// with its CRLF.
    pub fn request(&mut self, method: &str, path: &str, extra: &str) -> Response {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{extra}\r\n"
        );
        self.offer(request, Delivery::Whole);
        self.response()
    }

    /// Asks for a WebSocket to a channel.
    pub fn upgrade(&mut self, extra: &str) -> Response {
        let request = upgrade_request("/channels/demo", "localhost", extra);
        self.offer(request, Delivery::Whole);
        self.response()
    }

    /// What `/metrics` says now.
    pub fn metrics(&mut self) -> Metrics {
        let answer = self.request("GET", "/metrics", "");
        assert_eq!(answer.status, 200);
        Metrics::parse(&answer.text())
    }

    /// Ends the writing side only.
    pub fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).expect("shutdown");
    }

    /// Waits until at least `len` bytes are there and gives them without taking them, or says how the connection ended before.
    pub fn peek(&mut self, len: usize) -> Result<&[u8], End> {
        while self.received.len() < len {
            self.receive()?;
        }
        Ok(&self.received[..len])
    }

    /// Takes exactly `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<Vec<u8>, End> {
        self.peek(len)?;
        Ok(self.received.drain(..len).collect())
    }

    /// Reads to the end: the bytes left, and how it ended.
    pub fn read_to_end(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Err(end) = self.receive() {
                return (std::mem::take(&mut self.received), end);
            }
        }
    }

    /// The server ends the connection, in either way, and sends nothing more before that.
    pub fn expect_end(&mut self) {
        let (rest, _) = self.read_to_end();
        assert!(rest.is_empty(), "expected the end, got {:?}", lossy(&rest));
    }

    /// Whether a byte or the end is there within `wait`.
    pub fn has_input(&mut self, wait: Duration) -> bool {
        if !self.received.is_empty() {
            return true;
        }
        self.stream.set_read_timeout(Some(wait)).expect("timeout");
        let seen = self.stream.peek(&mut [0]);
        self.stream
            .set_read_timeout(Some(PATIENCE))
            .expect("timeout");
        !seen.is_err_and(|error| is_timeout(error.kind()))
    }

    fn receive(&mut self) -> Result<(), End> {
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(End::Eof),
            Ok(n) => {
                self.received.extend_from_slice(&buffer[..n]);
                Ok(())
            }
            Err(error) if is_timeout(error.kind()) => {
                panic!(
                    "nothing came within {PATIENCE:?} after {:?}",
                    lossy(&self.received)
                )
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(_) => Err(End::Reset),
        }
    }

    /// Reads one response with its body.
    pub fn response(&mut self) -> Response {
        self.try_response()
            .unwrap_or_else(|end| panic!("no response: {end:?} after {:?}", lossy(&self.received)))
    }

    /// Reads one response, or says how the connection ended before its first byte; ending within a response fails the test.
    pub fn try_response(&mut self) -> Result<Response, End> {
        self.peek(1)?;
        let mut response = self.head();
        let length = response
            .header("content-length")
            .map(|v| v.parse().unwrap());
        if let Some(length) = length.filter(|_| response.status >= 200) {
            response.body = self.take(length).expect("the whole body");
        }
        Ok(response)
    }

    /// Reads a response head only, as after HEAD.
    pub fn head(&mut self) -> Response {
        let mut len = 1;
        while !self
            .peek(len)
            .expect("a response head")
            .ends_with(b"\r\n\r\n")
        {
            len += 1;
        }
        let head = String::from_utf8(self.take(len).unwrap()).expect("an ASCII head");
        Response::parse_head(&head)
    }
}

/// An HTTP response; header names in lower case.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    fn parse_head(head: &str) -> Self {
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let code = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|s| s.get(..3));
        let parse_header = |line: &str| {
            let (name, value) = line.split_once(':').expect("name: value");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Self {
            status: code
                .and_then(|code| code.parse().ok())
                .unwrap_or_else(|| panic!("not a status line: {status_line:?}")),
            headers: lines.map(parse_header).collect(),
            body: Vec::new(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Expects the answer of a server that has no room: it says so, and when to come back.
    pub fn expect_refusal(&self, text: &str) {
        assert_eq!((self.status, self.text().trim()), (503, text));
        let retry_s = self
            .header("retry-after")
            .map(|value| value.parse().unwrap());
        assert!((1..=10).contains(&retry_s.unwrap_or(0)), "{retry_s:?}");
        assert_eq!(self.header("connection"), Some("close"));
    }

    pub fn text(&self) -> String {
        lossy(&self.body)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {:?}", self.text()))
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
