//! One HTTP request to a server, for what only this benchmark asks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use socket2::{Domain, Protocol, Socket, Type};

/// How often a server is asked while something is waited for.
const ASK_INTERVAL: Duration = Duration::from_millis(200);
/// How long everybody may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(120);

/// The counters of a floor server.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct FloorStatus {
    pub connections: u64,
    pub waits: u64,
    pub lost: u64,
}

/// What its heartbeat came to.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct FloorBeats {
    pub pings: u64,
    pub pairs: u64,
    pub cpu_ns: u64,
}

/// The counters of the floor server at `address`.
pub fn floor_status(address: SocketAddr) -> Result<FloorStatus, String> {
    decode(&request(address, "GET /floor", b"")?)
}

/// Makes the floor server let go of all its WebSockets.
pub fn floor_reset(address: SocketAddr) -> Result<(), String> {
    request(address, "POST /floor/reset", b"").map(drop)
}

/// Makes the floor server ping for `seconds` seconds; comes back when it has.
pub fn floor_heartbeat(
    address: SocketAddr,
    seconds: u32,
    interval_s: u32,
) -> Result<FloorBeats, String> {
    let line = format!("POST /floor/heartbeat?seconds={seconds}&interval={interval_s}");
    decode(&request(address, &line, b"")?)
}

/// A metric of Longwire, summed over its labels.
pub fn longwire_metric(address: SocketAddr, name: &str) -> Result<u64, String> {
    let page = request(address, "GET /metrics", b"")?;
    let page = String::from_utf8_lossy(&page);
    let of_name = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then_some(rest)
    });
    let values = of_name.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok());
    let values: Vec<f64> = values.collect();
    match values.is_empty() {
        true => Err(format!("no {name} on the /metrics page")),
        false => Ok(values.iter().sum::<f64>() as u64),
    }
}

/// Waits until `count` says that `wanted` are there.
pub fn await_count(
    wanted: u64,
    mut count: impl FnMut() -> Result<u64, String>,
) -> Result<(), String> {
    let started = Instant::now();
    loop {
        let there = count()?;
        if there == wanted {
            return Ok(());
        }
        if started.elapsed() > CONNECT_TIMEOUT {
            return Err(format!("{there} connections of {wanted}"));
        }
        std::thread::sleep(ASK_INTERVAL);
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// Sends a request, with its method and path as `line`; gives the body of a 200.
pub fn request(address: SocketAddr, line: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{line} at {address}: {error}");
    let mut stream = connect(address).map_err(failed)?;
    let len = body.len();
    let head = format!("{line} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {len}\r\n\r\n");
    let bytes = [head.as_bytes(), body].concat();
    stream.write_all(&bytes).map_err(failed)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        if let Some(body) = whole_body(&answer) {
            return body.map_err(|status| format!("{line} at {address}: {status}"));
        }
        match stream.read(&mut buffer).map_err(failed)? {
            0 => return Err(format!("{line} at {address}: no whole answer")),
            read => answer.extend_from_slice(&buffer[..read]),
        }
    }
}

/// Connects from a port that is chosen beforehand: the kernel's choice while connecting leaves out every port that a
/// load generator holds on any address, and there may be no other.
fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.bind(&SocketAddr::new(address.ip(), 0).into())?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}

/// The body, or the status line of anything but a 200; `None` if more is to come.
fn whole_body(answer: &[u8]) -> Option<Result<Vec<u8>, String>> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&answer[..end]);
    if !head.starts_with("HTTP/1.1 200 ") {
        return Some(Err(head.lines().next().unwrap_or_default().to_owned()));
    }
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let length = fields.find_map(|(name, value)| {
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.parse::<usize>().ok())?
    });
    let body = answer.get(end..end + length?)?;
    Some(Ok(body.to_vec()))
}
