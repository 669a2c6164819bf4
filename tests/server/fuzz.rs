//! The whole server under noise: connections that send valid, damaged and random bytes in random pieces, and leave in every
//! way. The same in every run; `FUZZ_SEED=n` draws others, `FUZZ_CONNECTIONS=n` more or fewer.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, Server, TEXT, close_payload, masked_frame,
    masked_header, upgrade_request, wait_until,
};

const SEED: u64 = 0x6c6f_6e67_7769_7265;
const CONNECTIONS: u64 = 3_000;
/// Connections at a time.
const PLAYERS: u64 = 4;

struct Script {
    random: fastrand::Rng,
    host: String,
}

impl Script {
    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.usize(..choices.len())]
    }

    fn noise(&mut self, len_max: usize) -> Vec<u8> {
        let len = self.random.usize(..=len_max);
        let random = &mut self.random;
        std::iter::repeat_with(|| random.u8(..)).take(len).collect()
    }

    /// All bytes of one connection.
    fn connection(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..self.random.u8(..3) {
            bytes.extend(self.request());
        }
        if self.random.u8(..4) > 0 {
            let path = self.one_of(&["/echo", "/chat", "/channels/fuzz", "/channels/a%2Fb"]);
            bytes.extend(upgrade_request(path, &self.host, "").into_bytes());
            for _ in 0..self.random.u8(..12) {
                bytes.extend(self.frame());
            }
        }
        for _ in 0..self.one_of(&[0, 0, 1, 4]) {
            self.damage(&mut bytes);
        }
        bytes
    }

    fn request(&mut self) -> Vec<u8> {
        let host = &self.host;
        let requests = [
            format!("GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            format!("HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            "GET /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned(),
            format!(
                "GET /channels/fuzz HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n"
            ),
            format!("GET /channels/fuzz?wait=0&since=x:1 HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            format!(
                "OPTIONS /channels/fuzz HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n\r\n"
            ),
            format!(
                "POST /channels/fuzz HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello"
            ),
            format!(
                "POST /channels/fuzz HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\n\r\n"
            ),
            format!(
                "POST /api/publish HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 33\r\n\r\n{{\"channel\":\"fuzz\",\"data\":{{\"a\":1}}}}"
            ),
        ];
        let index = self.random.usize(..requests.len());
        requests[index].clone().into_bytes()
    }

    fn frame(&mut self) -> Vec<u8> {
        let payload = match self.random.u8(..3) {
            0 => b"{\"some\":\"text\"}".to_vec(),
            1 => self.noise(100),
            _ => self.noise(3000),
        };
        let opcode = self.one_of(&[CONTINUATION, TEXT, BINARY, PING, PONG]);
        let fin = self.one_of(&[FIN, FIN, 0]);
        match self.random.u8(..10) {
            0 => masked_frame(self.random.u8(..), &payload),
            1 => masked_header(fin | opcode, self.random.u64(..)),
            2 => masked_frame(FIN | CLOSE, &close_payload(self.random.u16(..), b"bye")),
            3 => masked_frame(TEXT, "grüße".as_bytes()),
            _ => masked_frame(fin | opcode, &payload),
        }
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let at = self.random.usize(..=bytes.len());
        match self.random.u8(..4) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << self.random.u8(..8),
            2 => {
                let noise = self.noise(40);
                bytes.splice(at..at, noise);
            }
            _ => {
                let end = at + self.random.usize(..=bytes.len() - at);
                bytes.drain(at..end);
            }
        }
    }

    /// Plays one connection: sends in pieces, reads now and then, leaves.
    fn play(&mut self, addr: SocketAddr) {
        let bytes = self.connection();
        // A server that is full may well not take it.
        let Ok(mut stream) = TcpStream::connect(addr) else {
            return;
        };
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let brief = Some(Duration::from_millis(2));
        stream.set_read_timeout(brief).expect("timeout");
        let piece_bytes = self.one_of(&[1, 7, 100, 1500, usize::MAX]);
        let reads_at = self.random.usize(..=bytes.len() / piece_bytes);
        for (index, piece) in bytes.chunks(piece_bytes).enumerate() {
            if stream.write_all(piece).is_err() {
                break;
            }
            if index == reads_at {
                let _ = stream.read(&mut [0; 4096]);
            }
        }
        match self.random.u8(..4) {
            // With bytes of the server unread this is a reset.
            0 => drop(stream),
            1 => {
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.read(&mut [0; 65536]);
            }
            2 => {
                let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            }
            _ => while stream.read(&mut [0; 65536]).is_ok_and(|read| read > 0) {},
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().expect("a number"),
        Err(_) => default,
    }
}

#[test]
fn whatever_connections_send_the_server_stays_well_and_forgets_them() {
    let mut server = Server::with(&[
        "echo=true",
        "shards=2",
        "log_level=error",
        "http.ready_timeout_ms=2000",
        "http.body_timeout_ms=2000",
        "http.keepalive_timeout_ms=2000",
        "websocket.close_timeout_ms=1000",
    ]);
    let seed = number("FUZZ_SEED", SEED);
    let connections = number("FUZZ_CONNECTIONS", CONNECTIONS);
    println!("seed {seed}, {connections} connections");
    std::thread::scope(|scope| {
        for player in 0..PLAYERS {
            let mut script = Script {
                random: fastrand::Rng::with_seed(seed ^ player),
                host: server.host(),
            };
            let addr = server.addr();
            scope.spawn(move || {
                for _ in 0..connections / PLAYERS {
                    script.play(addr);
                }
            });
        }
    });
    assert!(!server.has_exited());
    assert_eq!(server.get("/health").text(), "ok\n");
    wait_until("all of them are forgotten", || {
        let metrics = server.metrics();
        let connections = metrics.sum("longwire_connections");
        connections == 1.0 && metrics.sum("longwire_subscriptions") == 0.0
    });
    let metrics = server.metrics();
    assert_eq!(metrics.sum("longwire_outbox_bytes"), 0.0);
    // They did get somewhere.
    assert!(metrics.sum("longwire_publications_total") > 0.0);
    for reason in ["http_error", "protocol_error", "message_too_big", "client"] {
        assert!(metrics.closes(reason) > 0.0, "{reason}");
    }
}
