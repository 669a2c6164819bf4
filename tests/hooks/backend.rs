//! A backend that a test plays: it does what the test says, byte by byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Counted over all connections, from 0.
    pub number: usize,
    /// The connection's number, from 0.
    pub connection: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
pub struct Seen {
    pub requests: Mutex<Vec<Request>>,
    pub connections: AtomicUsize,
}

pub struct Backend {
    pub port: u16,
    pub seen: Arc<Seen>,
}

/// Answers a request; false ends the connection.
pub type Script = dyn Fn(&Request, &mut dyn Write) -> bool + Send + Sync;

impl Backend {
    /// A plain backend.
    pub fn start(
        script: impl Fn(&Request, &mut dyn Write) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Some, script)
    }

    /// A backend whose connections begin with `wrap`, which may end them at once.
    pub fn start_with<T: Read + Write>(
        wrap: impl Fn(TcpStream) -> Option<T> + Send + Sync + 'static,
        script: impl Fn(&Request, &mut dyn Write) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen::default());
        let (counted, script, wrap) = (Arc::clone(&seen), Arc::new(script), Arc::new(wrap));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let connection = counted.connections.fetch_add(1, SeqCst);
                let (seen, script, wrap) = (counted.clone(), script.clone(), wrap.clone());
                thread::spawn(move || {
                    if let Some(stream) = wrap(stream) {
                        serve(stream, connection, &seen, &*script);
                    }
                });
            }
        });
        Self { port, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(SeqCst)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }
}

fn serve<T: Read + Write>(stream: T, connection: usize, seen: &Seen, script: &Script) {
    let mut reader = BufReader::new(stream);
    while let Some(mut request) = read_request(&mut reader) {
        request.connection = connection;
        {
            let mut requests = seen.requests.lock().unwrap();
            request.number = requests.len();
            requests.push(request.clone());
        }
        if !script(&request, reader.get_mut()) {
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut read_line = || {
        let mut line = String::new();
        let bytes = reader.read_line(&mut line).ok()?;
        (bytes > 0).then(|| line.trim_end().to_owned())
    };
    let line = read_line()?;
    let mut headers = Vec::new();
    loop {
        let line = read_line()?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        line,
        headers,
        body,
        number: 0,
        connection: 0,
    })
}

/// A whole answer.
pub fn answer(to: &mut dyn Write, status: u16, body: &str) -> bool {
    let length = body.len();
    let text = format!("HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\n\r\n{body}");
    to.write_all(text.as_bytes()).is_ok()
}
