//! What is there after a restart: everything that was acknowledged, after an orderly stop; a new epoch, after any other.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{
    Delivery, FIN, Peer, Server, TEXT, WebSocket, command, wait_until, write_config,
};

const CHANNELS: usize = 6;

/// A folder for the state, and a configuration that keeps it there.
struct Kept {
    dir: PathBuf,
    config: PathBuf,
}

impl Kept {
    fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("state-{}-{serial}", std::process::id());
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let config = write_config(&format!(
            "state_dir = {dir:?}\n\
             [client]\ninsecure = true\n\
             [drain]\nwindow_ms = 1000\n\
             [channel.without_namespace]\n\
             history_size = 100000\nhistory_ttl = \"10m\"\nforce_recovery = true\n"
        ));
        Self { dir, config }
    }

    fn start(&self, shards: &str) -> Server {
        let config = self.config.to_str().expect("UTF-8");
        let args = [
            "--listen",
            "127.0.0.1:0",
            "--config",
            config,
            "--shards",
            shards,
        ];
        Server::spawn(command(&args))
    }

    fn snapshot(&self) -> PathBuf {
        self.dir.join("channels.snapshot")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
        let _ = std::fs::remove_file(&self.config);
    }
}

fn call(socket: &mut WebSocket, command: &Value) -> Value {
    socket.send(FIN | TEXT, command.to_string());
    let frame = socket.frame();
    serde_json::from_slice(&frame.payload).expect("JSON")
}

/// Subscribes, as a client that has everything up to `since`.
fn subscribe(server: &Server, channel: &str, since: Option<(u64, &str)>) -> Value {
    let mut socket = server.websocket("/connection/websocket");
    let connected = call(&mut socket, &json!({"id": 1, "connect": {}}));
    assert!(connected["connect"].is_object(), "{connected}");
    let mut request = json!({"channel": channel});
    if let Some((offset, epoch)) = since {
        request = json!({"channel": channel, "recover": true, "offset": offset, "epoch": epoch});
    }
    let answer = call(&mut socket, &json!({"id": 2, "subscribe": request}));
    assert!(answer["subscribe"].is_object(), "{answer}");
    answer["subscribe"].clone()
}

fn post(peer: &mut Peer, host: &str, channel: &str, body: &str) -> Option<(u64, String)> {
    let request = format!(
        "POST /channels/{channel} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    peer.offer(request, Delivery::Whole);
    let answer = peer.try_response().ok()?;
    if answer.status != 200 {
        return None;
    }
    let json = answer.json();
    let epoch = json["epoch"].as_str().expect("an epoch");
    Some((
        json["offset"].as_u64().expect("an offset"),
        epoch.to_owned(),
    ))
}

/// What publishers were told: channel, offset, epoch, data.
type Acknowledged = (String, u64, String, String);

/// Publishes from 20 connections until the server is gone, which is told to stop meanwhile.
fn publish_through_a_stop(server: &mut Server) -> Vec<Acknowledged> {
    let acknowledged = Mutex::new(Vec::new());
    let (addr, host) = (server.addr(), server.host());
    std::thread::scope(|scope| {
        for publisher in 0..20 {
            let (acknowledged, host) = (&acknowledged, &host);
            scope.spawn(move || {
                let mut peer = Peer::connect(addr);
                for i in 0.. {
                    let channel = format!("channel-{}", (publisher + i) % CHANNELS);
                    let body = format!("{publisher}:{i}");
                    let Some((offset, epoch)) = post(&mut peer, host, &channel, &body) else {
                        return;
                    };
                    let mut acknowledged = acknowledged.lock().expect("unharmed");
                    acknowledged.push((channel, offset, epoch, body));
                }
            });
        }
        wait_until("publishers are at work", || {
            acknowledged.lock().expect("unharmed").len() > 500
        });
        server.terminate();
    });
    assert_eq!(server.exit_status().code(), Some(0));
    acknowledged.into_inner().expect("unharmed")
}

#[test]
fn nothing_that_was_acknowledged_is_missing_after_a_clean_restart() {
    let kept = Kept::new();
    let mut server = kept.start("3");
    let acknowledged = publish_through_a_stop(&mut server);
    assert!(kept.snapshot().exists());
    let server = kept.start("2");
    assert!(!kept.snapshot().exists(), "taken once");
    for channel in (0..CHANNELS).map(|i| format!("channel-{i}")) {
        let of_channel: Vec<_> = acknowledged.iter().filter(|a| a.0 == channel).collect();
        let epoch = &of_channel[0].2;
        let found = subscribe(&server, &channel, Some((0, epoch)));
        assert_eq!(found["recovered"], json!(true), "{channel}");
        assert_eq!(found["epoch"].as_str(), Some(epoch.as_str()));
        let publications = found["publications"].as_array().expect("publications");
        let offsets: Vec<_> = publications.iter().map(|p| p["offset"].as_u64()).collect();
        let whole: Vec<_> = (1..=offsets.len() as u64).map(Some).collect();
        assert_eq!(offsets, whole, "no gap");
        for (_, offset, its_epoch, body) in of_channel {
            assert_eq!(its_epoch, epoch);
            assert_eq!(publications[*offset as usize - 1]["data"], json!(body));
        }
        let next = server.publish(&channel, "\"next\"");
        assert_eq!(next, (offsets.len() as u64 + 1, epoch.clone()));
    }
}

#[test]
fn after_a_kill_the_epoch_is_another_and_clients_are_told() {
    let kept = Kept::new();
    let mut first = kept.start("2");
    let (_, epoch) = first.publish("news", "1");
    first.terminate();
    assert_eq!(first.exit_status().code(), Some(0));
    let mut second = kept.start("2");
    assert_eq!(second.publish("news", "2"), (2, epoch.clone()));
    kill_process(second.pid(), Signal::KILL).expect("kill");
    second.exit_status();
    let third = kept.start("2");
    let found = subscribe(&third, "news", Some((2, &epoch)));
    assert_ne!(found["recovered"], json!(true), "{found}");
    assert_ne!(found["epoch"].as_str(), Some(epoch.as_str()));
}

#[test]
fn a_damaged_file_is_put_aside_and_the_server_starts() {
    let kept = Kept::new();
    let mut server = kept.start("1");
    let (_, epoch) = server.publish("news", "1");
    server.terminate();
    assert_eq!(server.exit_status().code(), Some(0));
    let mut bytes = std::fs::read(kept.snapshot()).expect("a snapshot");
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(kept.snapshot(), bytes).expect("write");
    let server = kept.start("1");
    let (offset, other) = server.publish("news", "1");
    assert!(offset == 1 && other != epoch);
    let exists = |name: &str| Path::new(&kept.dir).join(name).exists();
    assert!(!kept.snapshot().exists() && exists("channels.snapshot.damaged"));
}

#[test]
fn a_request_to_drain_stops_the_server_as_a_signal_does() {
    let mut server = Server::with(&["drain.window_ms=500", "api_keys=secret-key"]);
    let mut socket = server.subscribe("demo");
    assert_eq!(server.request("POST", "/api/drain", "", b"{}").status, 401);
    let key = "X-API-Key: secret-key\r\n";
    assert_eq!(server.request("POST", "/api/drain", key, b"{}").status, 200);
    socket.expect_close(1001);
    assert_eq!(server.exit_status().code(), Some(0));
}

#[test]
fn a_connection_as_old_as_it_may_be_is_sent_away() {
    let settings = [
        "max_connection_age_ms=1000",
        "client.insecure=true",
        "client.ping_interval=3600s",
    ];
    let server = Server::with(&settings);
    let mut plain = server.subscribe("demo");
    let mut socket = server.websocket("/connection/websocket");
    call(&mut socket, &json!({"id": 1, "connect": {}}));
    plain.expect_close(1001);
    socket.expect_close(3011);
    server.wait_for_closes("max_age", 2.0);
}

#[test]
fn a_channel_that_was_never_published_to_goes_on_too() {
    let kept = Kept::new();
    let mut server = kept.start("2");
    let before = subscribe(&server, "quiet", None);
    server.terminate();
    assert_eq!(server.exit_status().code(), Some(0));
    let server = kept.start("2");
    let epoch = before["epoch"].as_str().expect("an epoch");
    let after = subscribe(&server, "quiet", Some((0, epoch)));
    assert_eq!(after["recovered"], true, "{after}");
    assert_eq!(after["epoch"], epoch);
}

#[test]
fn what_was_revoked_is_refused_after_a_restart() {
    const SECRET: &str = "a secret that is long enough for HS256";
    let token = |claims: &Value| {
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("a token")
    };
    let kept = Kept::new();
    let config = std::fs::read_to_string(&kept.config).expect("a configuration");
    let config = config.replace("insecure = true", "token.hmac_secret_key = \"SECRET\"");
    let config = "http_api.key = \"key\"\n".to_owned() + &config.replace("SECRET", SECRET);
    std::fs::write(&kept.config, config).expect("a configuration");
    let is_let_in = |server: &Server, claims: &Value| {
        let mut socket = server.websocket("/connection/websocket");
        let connect = json!({"id": 1, "connect": {"token": token(claims)}});
        socket.send(FIN | TEXT, connect.to_string());
        socket.frame().first == FIN | TEXT
    };
    let of_ada = json!({"sub": "ada"});
    let named = json!({"sub": "bob", "jti": "one"});
    let other = json!({"sub": "bob", "jti": "two"});
    let mut server = kept.start("2");
    for claims in [&of_ada, &named, &other] {
        assert!(is_let_in(&server, claims));
    }
    let until = jsonwebtoken::get_current_timestamp() + 3600;
    for revocation in [
        json!({"user": "ada", "until": until}),
        json!({"token_id": "one", "until": until}),
    ] {
        let key = "X-API-Key: key\r\n";
        let body = revocation.to_string();
        let answer = server.request("POST", "/api/revoke", key, body.as_bytes());
        assert!(answer.json()["error"].is_null(), "{}", answer.text());
    }
    // Twice: what was taken up is handed on.
    for shards in ["3", "1"] {
        server.terminate();
        assert_eq!(server.exit_status().code(), Some(0));
        server = kept.start(shards);
        for _ in 0..4 {
            assert!(!is_let_in(&server, &of_ada));
            assert!(!is_let_in(&server, &named));
            assert!(is_let_in(&server, &other));
        }
    }
}
