//! Under `cargo test`: the floor server does what it is to be compared for, no more and no less.

use std::fmt::Debug;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use longwire::proto::frame::{Opcode, encode_frame, encode_masked_frame};
use longwire::proto::handshake::{read_client_handshake, write_client_handshake};

use crate::child::Server;
use crate::client::{await_count, floor_heartbeat, floor_reset, floor_status, request};
use crate::report::{Goal, Table};

const THREADS: u32 = 2;
const SUBSCRIBERS: usize = 40;
const MESSAGES: usize = 3;
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must come.
const SILENCE: Duration = Duration::from_millis(50);

/// Fails with the first thing that is not as it should be.
pub fn run() -> Result<(), String> {
    check_verdicts()?;
    let floor = Server::floor("", THREADS)?;
    let address = floor.address;
    let opened: Result<Vec<_>, _> = (0..SUBSCRIBERS).map(|_| subscribe(address)).collect();
    let mut subscribers = opened.map_err(|error| format!("a WebSocket: {error}"))?;
    await_count(
        SUBSCRIBERS as u64,
        || Ok(floor_status(address)?.connections),
    )?;

    check_messages(address, &mut subscribers)?;
    check_heartbeat(address, &subscribers)?;

    floor_reset(address)?;
    let status = floor_status(address)?;
    expect("connections after a reset", status.connections, 0)?;
    expect("connections lost", status.lost, 0)?;
    for subscriber in &mut subscribers {
        // What is left unread is the end, or a reset if the server had not read everything.
        let ended = subscriber.read(&mut [0; 1]);
        let is_end = matches!(&ended, Ok(0))
            || matches!(&ended, Err(error) if error.kind() == ErrorKind::ConnectionReset);
        expect("the end of a WebSocket", is_end, true)?;
    }
    println!("ok floor_smoke");
    Ok(())
}

/// The median decides, and nothing does once a table is in doubt.
fn check_verdicts() -> Result<(), String> {
    let mut table = Table::new("smoke", String::new());
    let mut verdict_after = |value, holds: bool| {
        table.judge("ratio", "", value, Goal::AtMost(2.5));
        table.presume(holds, || "it did not hold".to_owned());
        (table.rows[0].median, table.rows[0].is_met)
    };
    expect("one value", verdict_after(9.0, true), (9.0, Some(false)))?;
    expect("two values", verdict_after(1.0, true), (5.0, Some(false)))?;
    expect("three values", verdict_after(2.0, true), (2.0, Some(true)))?;
    expect("in doubt", verdict_after(3.0, false), (2.5, None))?;
    expect("still in doubt", verdict_after(1.0, true), (2.0, None))
}

/// Every subscriber, on whichever thread, gets every message once, in order and as one frame.
fn check_messages(address: SocketAddr, subscribers: &mut [TcpStream]) -> Result<(), String> {
    let mut frames = Vec::new();
    for number in 1..=MESSAGES {
        let payload = format!("message {number}");
        let answer = request(address, "POST /channels/any", payload.as_bytes())?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let expected = format!("{{\"offset\":{number},\"epoch\":\"0\"}}");
        expect("the answer to a publication", answer, expected)?;
        encode_frame(&mut frames, Opcode::Text, payload.as_bytes());
    }
    for subscriber in subscribers {
        let mut received = vec![0; frames.len()];
        let read = subscriber.read_exact(&mut received);
        read.map_err(|error| format!("a message: {error}"))?;
        expect("what a subscriber got", &received, &frames)?;
        expect("more than that", is_silent(subscriber), true)?;
    }
    Ok(())
}

/// Each is pinged every second second; a pong that does not come is no pair.
fn check_heartbeat(address: SocketAddr, subscribers: &[TcpStream]) -> Result<(), String> {
    let (seconds, interval_s) = (4, 2);
    let (mute, answering) = subscribers.split_at(SUBSCRIBERS / 10);
    let beats = std::thread::scope(|scope| {
        for subscriber in answering {
            scope.spawn(move || answer_pings(subscriber, seconds / interval_s));
        }
        floor_heartbeat(address, seconds, interval_s)
    })?;
    let each = u64::from(seconds / interval_s);
    expect("pings", beats.pings, SUBSCRIBERS as u64 * each)?;
    expect("pairs", beats.pairs, answering.len() as u64 * each)?;
    expect("CPU time of pings", beats.cpu_ns > 0, true)?;
    for mut subscriber in mute {
        let mut pings = vec![0; 2 * each as usize];
        let read = subscriber.read_exact(&mut pings);
        read.map_err(|error| format!("a ping: {error}"))?;
        expect("pings of one", &pings, &[0x89, 0].repeat(each as usize))?;
    }
    Ok(())
}

fn answer_pings(mut subscriber: &TcpStream, count: u32) {
    let mut pong = Vec::new();
    encode_masked_frame(&mut pong, Opcode::Pong, [1, 2, 3, 4], b"");
    for _ in 0..count {
        let mut ping = [0; 2];
        // A ping that does not come, or a pong that cannot go, is missed where pairs are counted.
        if subscriber.read_exact(&mut ping).is_ok() && ping == [0x89, 0] {
            let _ = subscriber.write_all(&pong);
        }
    }
}

fn subscribe(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut opening = Vec::new();
    let host = address.to_string();
    write_client_handshake(&mut opening, &host, "/channels/any", KEY, None, None);
    stream.write_all(&opening)?;
    let mut answer = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
        let opened = read_client_handshake(&answer, KEY, None);
        if opened.map_err(std::io::Error::other)?.is_some() {
            return Ok(stream);
        }
    }
}

fn is_silent(stream: &TcpStream) -> bool {
    let peeked = stream
        .set_read_timeout(Some(SILENCE))
        .and_then(|()| stream.peek(&mut [0]));
    let restored = stream.set_read_timeout(Some(PATIENCE));
    let is_silent = matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock);
    is_silent && restored.is_ok()
}

fn expect<T, U>(what: &str, found: T, expected: U) -> Result<(), String>
where
    T: PartialEq<U> + Debug,
    U: Debug,
{
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what}: {found:?}, not {expected:?}")),
    }
}
