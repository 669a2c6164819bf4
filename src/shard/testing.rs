//! Cores without their tasks, and clients to talk to them: for the tests of this module.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use crate::auth::{ApiKeys, Revocations, TokenSettings, TokenVerifier};
use crate::config::Config;
use crate::endpoints;
use crate::hub::Key;
use crate::memory::Memory;
use crate::metrics::ShardMetrics;
use crate::net::{Rings, Socket, build_runtime};

use super::{AddressTable, Core, Doorbell, Inbox, Shared, Tokens, connect};

/// Room for any test's connections.
const CONNECTIONS: usize = 1000;
/// A send buffer that a few frames fill.
pub(crate) const SEND_BUFFER_BYTES: usize = 4096;
/// Small, yet not so small that TCP crawls.
const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// The cores of a server, driven by hand.
pub(crate) struct Bed {
    pub cores: Vec<Core>,
    pub inboxes: Vec<Inbox>,
    scratch: Vec<u8>,
}

/// A connection, seen from both sides.
pub(crate) struct Client {
    pub shard: usize,
    pub key: Key,
    pub socket: TcpStream,
}

/// Runs `test` on a server of `shards` shards, in a thread that has a ring.
pub(crate) fn with_cores(shards: usize, config: Config, test: impl FnOnce(&mut Bed)) {
    let mut runtime = build_runtime().unwrap();
    runtime.block_on(async { test(&mut Bed::new(shards, config)) });
}

impl Bed {
    /// `shards` cores and the ways between them. Clients need the thread to have a ring.
    pub fn new(shards: usize, config: Config) -> Self {
        Self::with_bells(&bells(shards), config)
    }

    /// The same with doorbells of its caller's, which cost a descriptor for ever.
    pub fn with_bells(bells: &[Arc<Doorbell>], config: Config) -> Self {
        let shards = bells.len();
        let (ports, _) = connect(bells, 1, config.inbox.messages, 1 << 20);
        let shared = Arc::new(Shared {
            connections_per_shard: CONNECTIONS,
            metrics: (0..shards)
                .map(|_| Arc::new(ShardMetrics::default()))
                .collect(),
            channel_hash: std::hash::RandomState::new(),
            is_ready: AtomicBool::new(true),
            addresses: AddressTable::default(),
            memory: Memory::new(&config.admission, || ()),
            batons: Vec::new(),
            tokens: Tokens {
                connect: verifier(&config),
                subscribe: verifier(&config),
                revocations: Revocations::new(100),
            },
            // Whoever is to be asked, nobody takes the question: as with a full queue.
            backend: super::Backend::plan(&config).0,
            node: "test".into(),
            api_keys: ApiKeys::default(),
            begin_drain: Box::new(|| ()),
            handler: endpoints::HANDLER,
            log_lines_dropped: || 0,
            config,
        });
        let (mut cores, mut inboxes) = (Vec::new(), Vec::new());
        for (id, ports) in ports.into_iter().enumerate() {
            let rings = Rings::new().unwrap();
            let core = Core::new(id as u16, Arc::clone(&shared), ports.links, rings);
            cores.push(core);
            inboxes.push(ports.inbox);
        }
        Self {
            cores,
            inboxes,
            scratch: vec![0; 64 * 1024],
        }
    }

    /// A new connection to a shard.
    pub fn connect(&mut self, shard: usize) -> Client {
        let (key, socket) = self.dial(shard);
        let key = key.unwrap();
        Client { shard, key, socket }
    }

    /// A new connection to a shard, which may have ended it at once. Both sides have small buffers.
    pub fn dial(&mut self, shard: usize) -> (Option<Key>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        SockRef::from(&listener)
            .set_recv_buffer_size(RECEIVE_BUFFER_BYTES)
            .unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        SockRef::from(&socket)
            .set_recv_buffer_size(RECEIVE_BUFFER_BYTES)
            .unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        SockRef::from(&accepted)
            .set_send_buffer_size(SEND_BUFFER_BYTES)
            .unwrap();
        let accepted = Socket::from(std::os::fd::OwnedFd::from(accepted));
        (self.cores[shard].accept(accepted, peer, false), socket)
    }

    /// A WebSocket at `path`, open.
    pub fn websocket(&mut self, shard: usize, path: &str) -> Client {
        let mut client = self.connect(shard);
        self.say(&mut client, upgrade(path).as_bytes());
        self.pass_messages();
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    }

    /// A request of its own connection: the status and the body of the answer.
    pub fn post(&mut self, shard: usize, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut client = self.connect(shard);
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        self.say(&mut client, request.as_bytes());
        self.pass_messages();
        client.response()
    }

    /// The client sends, and its shard receives.
    pub fn say(&mut self, client: &mut Client, bytes: &[u8]) {
        client.socket.write_all(bytes).unwrap();
        self.receive(client);
    }

    /// A shard receives what there is, or learns that the client is gone.
    pub fn receive(&mut self, client: &Client) {
        self.receive_at(client.shard, client.key);
    }

    /// The same, for a client that is somewhere else.
    pub fn receive_at(&mut self, shard: usize, key: Key) {
        let core = &mut self.cores[shard];
        if let Some(session) = core.sessions.get(key) {
            await_ready(session.socket.as_ref().unwrap(), PollFlags::IN);
        }
        core.receive(key, &mut self.scratch);
        core.make_sends();
    }

    /// Until no shard has anything to do: messages lead to passes, and those to messages.
    pub fn settle(&mut self) {
        for _ in 0..3 {
            self.pass_messages();
            for core in &mut self.cores {
                while core.fan_out() {}
            }
        }
    }

    /// Shards handle messages until there are none.
    pub fn pass_messages(&mut self) {
        let mut quiet = false;
        while !quiet {
            quiet = true;
            for (core, inbox) in self.cores.iter_mut().zip(&self.inboxes) {
                while let Some((from, message)) = inbox.pop() {
                    core.handle(from, message);
                    quiet = false;
                }
                core.make_sends();
            }
        }
    }

    /// A shard sends what waits in its outboxes, as clients take it.
    pub fn flush_all(&mut self, shard: usize) {
        let core = &mut self.cores[shard];
        let keys: Vec<Key> = core.sessions.keys().collect();
        for key in keys {
            while let Some(session) = core.sessions.get(key)
                && session.outbox.is_some()
            {
                await_ready(session.socket.as_ref().unwrap(), PollFlags::OUT);
                core.flush(key);
            }
        }
    }

    /// Time passes on every shard, and deadlines come. Fails if a shard never gets done with them.
    pub fn pass_seconds(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.pass(Duration::from_secs(1));
        }
    }

    /// The same, once.
    pub fn pass(&mut self, time: Duration) {
        for core in &mut self.cores {
            core.clock.advance(time);
            assert!(!core.expire(CONNECTIONS), "deadlines without end");
            core.make_sends();
        }
    }

    /// A channel that `owner` owns.
    pub fn channel_of(&self, owner: u16) -> String {
        (0..)
            .map(|number| format!("channel-{number}"))
            .find(|name| self.cores[0].shared.owner_of(name) == owner)
            .unwrap()
    }
}

impl Client {
    /// Reads one HTTP head.
    pub fn head(&mut self) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    /// Reads the body of a response whose length is declared.
    pub fn body(&mut self) -> String {
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let (_, rest) = head.split_once("Content-Length: ").unwrap();
        let length = rest.lines().next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }

    /// Reads one chunk of a response's body; empty at its end.
    pub fn chunk(&mut self) -> Vec<u8> {
        let mut size = Vec::new();
        let mut byte = [0];
        while !size.ends_with(b"\r\n") {
            self.socket.read_exact(&mut byte).unwrap();
            size.push(byte[0]);
        }
        let digits = std::str::from_utf8(&size[..size.len() - 2]).unwrap();
        let mut chunk = vec![0; usize::from_str_radix(digits, 16).unwrap() + 2];
        self.socket.read_exact(&mut chunk).unwrap();
        chunk.truncate(chunk.len() - 2);
        chunk
    }

    /// Reads one answer: its status and its body.
    pub fn response(&mut self) -> (u16, String) {
        let head = self.head();
        let status = head.get(9..12).unwrap().parse().unwrap();
        (status, self.body_after(&head))
    }

    /// Reads the body of an answer with this head.
    pub fn body_after(&mut self, head: &str) -> String {
        let length = head
            .to_lowercase()
            .split_once("content-length: ")
            .map(|(_, rest)| {
                let digits = rest.split('\r').next().unwrap();
                digits.parse().unwrap()
            });
        let mut body = vec![0; length.unwrap_or(0)];
        self.socket.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }

    /// Whether something has come that was not read. It may be a moment on its way.
    pub fn has_bytes(&self) -> bool {
        let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
        let moment = Timespec::try_from(Duration::from_millis(20)).unwrap();
        poll(&mut polled, Some(&moment)).unwrap() == 1
    }

    /// Reads one frame: its first byte and its payload.
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 2];
        self.socket.read_exact(&mut header).unwrap();
        let mut length = u64::from(header[1]);
        let mut longer = [0; 8];
        if header[1] >= 126 {
            let bytes = if header[1] == 126 { 2 } else { 8 };
            self.socket.read_exact(&mut longer[8 - bytes..]).unwrap();
            length = u64::from_be_bytes(longer);
        }
        let mut payload = vec![0; length as usize];
        self.socket.read_exact(&mut payload).unwrap();
        (header[0], payload)
    }

    /// Reads the payload of the next message, past any ping.
    pub fn message(&mut self) -> Vec<u8> {
        loop {
            match self.frame() {
                (0x89, _) => {}
                (_, payload) => return payload,
            }
        }
    }

    /// Ends the connection with RST.
    pub fn reset(self) {
        SockRef::from(&self.socket)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

/// Doorbells of `shards` shards.
pub(crate) fn bells(shards: usize) -> Vec<Arc<Doorbell>> {
    (0..shards)
        .map(|_| Arc::new(Doorbell::open().unwrap()))
        .collect()
}

/// An opening handshake.
pub(crate) fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

fn verifier(config: &Config) -> TokenVerifier {
    let settings = TokenSettings {
        hmac_secret_key: config.client.token.hmac_secret_key.clone(),
        ..TokenSettings::default()
    };
    TokenVerifier::new(&settings).unwrap()
}

fn await_ready(socket: &Socket, readiness: PollFlags) {
    let mut polled = [PollFd::new(socket, readiness)];
    let patience = Timespec::try_from(PATIENCE).unwrap();
    assert_eq!(poll(&mut polled, Some(&patience)).unwrap(), 1, "not ready");
}
