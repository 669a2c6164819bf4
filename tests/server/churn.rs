//! Connections that are reset as soon as they stand. `CHURN_CONNECTIONS=600000` goes on for half a minute.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::{Server, upgrade_request, wait_until};

const CONNECTIONS: u32 = 20_000;
const CONNECTIONS_PER_S: u32 = 20_000;
const THREADS: u32 = 4;
/// Connections before the server has reached the size it keeps.
const WARM_UP: u32 = 20_000;
/// What the resident size may differ by afterwards: a chunk of the allocator per shard, and its noise.
const DRIFT_BYTES: f64 = 4e6;

/// Connects, perhaps begins something, and resets.
fn connect_and_reset(addr: SocketAddr, index: u32, upgrade: &str) {
    let mut stream = TcpStream::connect(addr).expect("connect");
    let sent = match index % 8 {
        0 => upgrade,
        1 => "GET /health HT",
        2 => "POST /channels/churn HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf",
        _ => "",
    };
    stream.write_all(sent.as_bytes()).expect("write");
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("SO_LINGER");
}

/// That many connections in all, no faster than [`CONNECTIONS_PER_S`]; gives the rate.
fn churn(server: &Server, connections: u32) -> f64 {
    let started = Instant::now();
    let upgrade = upgrade_request("/channels/churn", &server.host(), "");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let upgrade = &upgrade;
            scope.spawn(move || {
                for index in (thread..connections).step_by(THREADS as usize) {
                    let due = started + Duration::from_secs(1) * index / CONNECTIONS_PER_S;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    connect_and_reset(server.addr(), index, upgrade);
                }
            });
        }
    });
    f64::from(connections) / started.elapsed().as_secs_f64()
}

fn wait_until_forgotten(server: &Server) {
    wait_until("all connections are forgotten", || {
        let metrics = server.metrics();
        metrics.sum("longwire_connections") == 1.0
            && metrics.sum("longwire_subscriptions") == 0.0
            && metrics.sum("longwire_outbox_bytes") == 0.0
    });
}

#[test]
fn connections_that_are_reset_at_once_leave_nothing_behind() {
    let server = Server::with(&["log_level=error"]);
    let files_before = server.open_files_by_shard();
    churn(&server, WARM_UP);
    wait_until_forgotten(&server);
    let resident = || server.metrics().sum("process_resident_memory_bytes");
    let resident_before = resident();

    let connections = match std::env::var("CHURN_CONNECTIONS") {
        Ok(count) => count.parse().expect("a number"),
        Err(_) => CONNECTIONS,
    };
    let rate = churn(&server, connections);
    wait_until_forgotten(&server);

    let metrics = server.metrics();
    println!(
        "{connections} connections, {rate:.0} per second, resident {resident_before} then {} bytes",
        resident()
    );
    let accepted = metrics.sum("longwire_accepts_total") as u32;
    assert!(
        accepted >= WARM_UP + connections,
        "{accepted} were accepted"
    );
    wait_until("the shards have their files back", || {
        server.open_files_by_shard() == files_before
    });
    assert!((resident() - resident_before).abs() < DRIFT_BYTES);
    assert_eq!(server.get("/health").text(), "ok\n");
}
