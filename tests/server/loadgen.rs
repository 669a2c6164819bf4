//! The load generator against the server: what it says must be what happened.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde_json::Value;

use crate::harness::{Exit, Server, command, run_to_exit};

/// The load generator, without the server's settings in its environment.
pub fn loadgen(args: &[&str]) -> Command {
    let binary = std::env::var_os("LONGWIRE_LOADGEN_BIN").map(PathBuf::from);
    let binary = binary.unwrap_or_else(|| {
        Path::new(command(&[]).get_program()).with_file_name("longwire-loadgen")
    });
    assert!(
        binary.exists(),
        "{} is not there: cargo build --workspace",
        binary.display()
    );
    let mut command = Command::new(binary);
    // The tests' own variables are no settings of a server that it starts.
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("LONGWIRE_") {
            command.env_remove(key);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// A file of its own that is gone when the test ends.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(extension: &str) -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("loadgen-{}-{serial}.{extension}", std::process::id());
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.0).expect("a report")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs a command against `path` of the server; gives what it left and its figures.
pub fn drive(server: &Server, subcommand: &str, path: &str, args: &[&str]) -> (Exit, Value) {
    let json = Scratch::new("json");
    let url = format!("ws://{}{path}", server.addr());
    let common = [subcommand, "--quiet", "--url", &url, "--json", json.path()];
    let exit = run_to_exit(loadgen(&[&common, args].concat()));
    let report = std::fs::read_to_string(&json.0).unwrap_or_default();
    (exit, serde_json::from_str(&report).unwrap_or_default())
}

/// The same, and everything must have gone as it should.
pub fn drive_well(server: &Server, subcommand: &str, path: &str, args: &[&str]) -> Value {
    let (exit, report) = drive(server, subcommand, path, args);
    assert_eq!(
        exit.status.code(),
        Some(0),
        "{}{}",
        exit.stdout,
        exit.stderr
    );
    assert_eq!(report["ok"], true, "{report}");
    report
}

#[test]
fn idle_connections_are_counted_and_plotted() {
    let server = Server::start(&["--shards", "2"]);
    let html = Scratch::new("html");
    let args = [
        "--connections",
        "40",
        "--hold",
        "2.5",
        "--html",
        html.path(),
    ];
    let report = drive_well(&server, "idle", "/channels/{channel}", &args);
    assert_eq!(report["connecting"]["connected"], 40);
    let shards = report["shard_connections"].as_array().expect("shards");
    assert_eq!(shards.len(), 2);
    let series = report["series"].as_array().expect("samples");
    assert!(series.len() >= 3, "{series:?}");
    assert!(
        series
            .iter()
            .all(|sample| sample["server_rss_bytes"].as_f64() > Some(0.0))
    );
    assert_eq!(series[series.len() - 1]["open"], 40);
    assert!(report["machine"]["cores"].as_u64() > Some(0));
    let page = html.text();
    for part in [
        "Connections per shard",
        "Server memory",
        "<svg",
        "✓ ok",
        "p99",
    ] {
        assert!(page.contains(part), "no {part}");
    }
    assert!(!page.contains("<script") && !page.contains("http://"));
}

#[test]
fn broadcasts_reach_all_while_others_come_and_talk() {
    let server = Server::with(&[
        "shards=2",
        "heartbeat.ping_interval_ms=1000",
        "heartbeat.pong_timeout_ms=1000",
    ]);
    let (html, markdown) = (Scratch::new("html"), Scratch::new("md"));
    let args = [
        "--connections",
        "50",
        "--hold",
        "3.6",
        "--ping-interval",
        "1",
        "--broadcasts",
        "3",
        "--broadcast-interval",
        "0.2",
        "--quiet-channel",
        "--html",
        html.path(),
        "--markdown",
        markdown.path(),
    ];
    let report = drive_well(&server, "idle", "/channels/{channel}", &args);
    assert_eq!(report["held"], 50);
    let broadcasts = &report["broadcasts"];
    let each = broadcasts["each"].as_array().expect("broadcasts");
    assert_eq!(each.len(), 3);
    for broadcast in each {
        assert_eq!(broadcast["deliveries"], 50, "{broadcast}");
        assert!(broadcast["last_delivery_seconds"].as_f64() > Some(0.0));
    }
    for figure in ["lost_messages", "duplicated_messages", "foreign_messages"] {
        assert_eq!(broadcasts[figure], 0, "{figure}");
    }
    assert!(broadcasts["newcomers"].as_u64() >= Some(3), "{broadcasts}");
    assert!(broadcasts["newcomer_latency"]["max_us"].as_f64() > Some(0.0));
    let quiet = &broadcasts["quiet"];
    assert!(quiet["published"].as_u64() > Some(20), "{quiet}");
    assert_eq!(quiet["lost_messages"], 0);
    assert!(quiet["otherwise"]["p50_us"].as_f64() > Some(0.0));
    let heartbeat = &report["heartbeat"];
    assert_eq!(heartbeat["expected_per_s"], 50.0);
    assert!(heartbeat["cpu_per_ping_us"].is_number(), "{heartbeat}");
    assert!(report["pings_answered"].as_u64() > Some(0));
    assert_eq!(heartbeat["false_timeouts"], 0.0);
    assert!(report["connect_cpu_us"].is_number());
    assert!(report["kernel"]["slab_per_connection_bytes"].is_number());
    assert!(html.text().contains("Another channel"));
    assert!(markdown.text().contains("| last subscriber | after min "));
    // Three broadcasts and what was said in the quiet channel.
    let metrics = server.metrics();
    let published = metrics.sum("longwire_publications_total");
    assert_eq!(
        published,
        3.0 + quiet["published"].as_f64().expect("a number")
    );
}

#[test]
fn broadcasts_reach_event_streams_and_polls() {
    let server = Server::with(&[
        "shards=2",
        "heartbeat.ping_interval_ms=1000",
        "heartbeat.pong_timeout_ms=1000",
    ]);
    for transport in ["sse", "poll"] {
        let args = [
            "--transport",
            transport,
            "--connections",
            "40",
            "--hold",
            "2.5",
            "--broadcasts",
            "3",
            "--broadcast-interval",
            "0.2",
        ];
        let report = drive_well(&server, "idle", "/channels/{channel}", &args);
        let broadcasts = &report["broadcasts"];
        let each = broadcasts["each"].as_array().expect("broadcasts");
        let deliveries = each.iter().map(|broadcast| &broadcast["deliveries"]);
        assert!(deliveries.eq([40, 40, 40].iter()), "{transport}: {each:?}");
        assert_eq!(broadcasts["lost_messages"], 0, "{transport}");
        // A stream has comments for a heartbeat; a poll has its answers.
        let has_beats = report["pings_answered"].as_u64() > Some(0);
        assert_eq!(has_beats, transport == "sse");
    }
}

/// Stands between clients and the server, and keeps from the first subscriber all that follows its handshake.
fn deafen_first_subscriber(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let addr = listener.local_addr().expect("an address");
    let is_deaf = Arc::new(AtomicBool::new(false));
    // Ends with the test's process.
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let is_deaf = Arc::clone(&is_deaf);
            std::thread::spawn(move || relay(client, server, &is_deaf));
        }
    });
    addr
}

fn relay(mut client: TcpStream, server: SocketAddr, is_deaf: &AtomicBool) {
    let mut upstream = TcpStream::connect(server).expect("the server");
    let mut request = [0; 4096];
    let len = client.read(&mut request).unwrap_or(0);
    let subscribes = request[..len].starts_with(b"GET /channels/");
    let deaf = subscribes && !is_deaf.swap(true, Ordering::Relaxed);
    if upstream.write_all(&request[..len]).is_err() {
        return;
    }
    let (mut from_client, mut to_server) = (
        client.try_clone().expect("clone"),
        upstream.try_clone().expect("clone"),
    );
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(std::net::Shutdown::Write);
    });
    let mut answer = [0; 4096];
    for chunk in 0.. {
        match upstream.read(&mut answer) {
            Ok(len) if len > 0 => {
                let withheld = deaf && chunk > 0;
                if !withheld && client.write_all(&answer[..len]).is_err() {
                    break;
                }
            }
            _ => break,
        }
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
}

#[test]
fn a_broadcast_that_one_subscriber_misses_fails_the_run() {
    let server = Server::start(&["--shards", "1"]);
    let addr = deafen_first_subscriber(server.addr());
    let json = Scratch::new("json");
    let url = format!("ws://{addr}/channels/{{channel}}");
    let args = [
        "idle",
        "--quiet",
        "--url",
        &url,
        "--connections",
        "10",
        "--hold",
        "0.2",
        "--broadcasts",
        "2",
        "--broadcast-interval",
        "0.1",
        "--settle-ms",
        "300",
        "--json",
        json.path(),
    ];
    let exit = run_to_exit(loadgen(&args));
    assert_eq!(
        exit.status.code(),
        Some(1),
        "{}{}",
        exit.stdout,
        exit.stderr
    );
    let report: Value = serde_json::from_str(&json.text()).expect("JSON");
    let broadcasts = &report["broadcasts"];
    assert_eq!(broadcasts["lost_messages"], 2, "{broadcasts}");
    assert_eq!(broadcasts["each"][1]["subscribers"], 10);
    assert_eq!(broadcasts["each"][1]["deliveries"], 9);
    assert_eq!(report["lost"], serde_json::json!({}));
}

#[test]
fn broadcasts_that_cannot_be_checked_are_refused() {
    for (more, reason) in [
        (&["--size", "10"][..], "takes 46 bytes"),
        (
            &["--quiet-channel", "--url", "ws://127.0.0.1:1/chat"],
            "{channel}",
        ),
    ] {
        let args = [&["idle", "--broadcasts", "1"], more].concat();
        let exit = run_to_exit(loadgen(&args));
        assert_eq!(exit.status.code(), Some(2), "{}", exit.stderr);
        assert!(exit.stderr.contains(reason), "{}", exit.stderr);
    }
}

#[test]
fn fanned_out_messages_arrive_once_and_in_order() {
    let server = Server::start(&["--shards", "2"]);
    let html = Scratch::new("html");
    let args = [
        "--connections",
        "30",
        "--channels",
        "3",
        "--publishers",
        "2",
        "--messages",
        "60",
        "--html",
        html.path(),
        "--api-key",
        "confidential",
    ];
    let report = drive_well(&server, "fanout", "/channels/{channel}", &args);
    assert_eq!(report["deliveries"], 600);
    assert_eq!(report["lost_messages"], 0);
    let curve = report["delivery_latency"]["curve"]
        .as_array()
        .expect("a curve");
    assert_eq!(curve[0][0], 50.0);
    assert_eq!(curve[curve.len() - 1][0], 100.0);
    assert!(report["last_delivery_latency"].is_null());
    assert!(!html.text().contains("confidential"));
    assert!(!report.to_string().contains("confidential"));
}

#[test]
fn the_last_subscriber_of_each_message_is_timed() {
    let server = Server::start(&["--shards", "2"]);
    let load = ["--connections", "30", "--threads", "2", "--messages", "40"];
    let report = drive_well(&server, "fanout", "/channels/{channel}", &load);
    let (each, last) = (
        &report["delivery_latency"],
        &report["last_delivery_latency"],
    );
    assert!(
        last["p50_us"].as_f64() >= each["p50_us"].as_f64(),
        "{report}"
    );
    assert_eq!(last["max_us"], each["max_us"]);
}

#[test]
fn echoes_are_checked_at_any_size_and_pace() {
    let settings = ["echo=true", "websocket.message_bytes=1048576"];
    let server = Server::with(&settings);
    let short = ["--connections", "8", "--duration", "0.3"];
    for more in [
        &["--size", "0"][..],
        &["--size", "1", "--in-flight", "20"],
        &["--size", "1048576", "--in-flight", "2"],
        &["--rate", "500"],
    ] {
        let report = drive_well(&server, "echo", "/echo", &[&short, more].concat());
        assert!(report["echoed"].as_u64() > Some(0), "{more:?}: {report}");
        assert_eq!(report["echoed"], report["sent"], "{more:?}");
        assert_eq!(report["missing"], 0);
        assert!(report["echo_latency"]["max_us"].as_f64() > Some(0.0));
        assert!(report["server"]["cpu_seconds"].is_number());
    }
}

#[test]
fn what_is_no_echo_is_found_out() {
    let server = Server::start(&[]);
    let args = [
        "--connections",
        "2",
        "--duration",
        "0.2",
        "--settle-ms",
        "200",
    ];
    let (exit, report) = drive(&server, "echo", "/chat", &args);
    assert_eq!(exit.status.code(), Some(1));
    assert!(report["lost"]["wrong_echo"].as_u64() > Some(0), "{report}");
}

#[test]
fn a_storm_passes_and_leaves_the_others_alone() {
    let server = Server::start(&["--shards", "2"]);
    let args = [
        "--connections",
        "60",
        "--share",
        "0.5",
        "--calm",
        "0.5",
        "--rate",
        "40",
        "--channels",
        "2",
        "--backoff-base-ms",
        "100",
    ];
    let report = drive_well(&server, "storm", "/channels/{channel}", &args);
    for (figure, count) in [("cut", 30), ("back", 30)] {
        assert_eq!(report[figure], count, "{figure}: {report}");
    }
    assert!(report["all_back_seconds"].as_f64() > Some(0.0));
    let stayers = &report["stayers"];
    assert_eq!(
        (&stayers["stayed"], &stayers["lost_messages"]),
        (&30.into(), &0.into())
    );
    for latency in ["calm_latency", "delivery_latency"] {
        assert!(stayers[latency]["p99_us"].as_f64() > Some(0.0), "{latency}");
    }
    server.wait_for_closes("peer_reset", 30.0);
    assert_eq!(server.metrics().closes("peer_reset"), 30.0);
}

#[test]
fn replaced_connections_leave_nothing_behind() {
    let server = Server::start(&["--shards", "2"]);
    // 50 x 2400 % per minute for 3 s: 60 replacements.
    let args = [
        "--connections",
        "50",
        "--replace-percent-per-minute",
        "2400",
        "--duration",
        "3",
        "--settle-minutes",
        "0",
        "--rate",
        "40",
        "--max-growth-bytes",
        "100000000",
    ];
    let report = drive_well(&server, "churn", "/channels/{channel}", &args);
    let replaced = report["replaced"].as_u64().expect("a number");
    assert!((30..=61).contains(&replaced), "{report}");
    assert_eq!(report["back"], replaced);
    assert_eq!(report["unclosed"], 0);
    assert!(report["growth"]["bytes_per_thousand_replaced"].is_number());
    let stayers = &report["stayers"];
    assert!(stayers["stayed"].as_u64() >= Some(5) && stayers["lost_messages"] == 0);
    let metrics = server.metrics();
    assert_eq!(metrics.closes("peer_reset"), replaced.div_ceil(2) as f64);
    // The metrics themselves came over the only connection that is left.
    assert_eq!(metrics.sum("longwire_subscriptions"), 0.0);
}

#[test]
fn without_all_connections_there_is_no_storm() {
    let server = Server::start(&["--max-connections", "12", "--shards", "1"]);
    let taken: Vec<_> = (0..12).map(|_| server.subscribe("taken")).collect();
    let (exit, report) = drive(
        &server,
        "storm",
        "/channels/{channel}",
        &["--connections", "4", "--calm", "0"],
    );
    drop(taken);
    assert_eq!(exit.status.code(), Some(1));
    assert_eq!(report["connecting"]["failed"]["http_503"], 4, "{report}");
    assert_eq!(report["cut"], 0);
}

#[test]
fn a_path_that_is_not_there_is_a_failure() {
    let server = Server::start(&[]);
    let (exit, report) = drive(
        &server,
        "idle",
        "/nowhere",
        &["--connections", "3", "--hold", "0"],
    );
    assert_eq!(exit.status.code(), Some(1));
    assert_eq!(report["connecting"]["failed"]["http_404"], 3);
}

#[test]
fn another_server_is_driven_by_templates() {
    // This one plays the other: its API wraps messages, and clients may say something first in `loadgen-0`.
    let server = Server::with(&["channels.client_publish=loadgen-0"]);
    let url = format!("http://{}/api/publish", server.addr());
    let own_process = std::process::id().to_string();
    let rival = [
        "--rival",
        "--connections",
        "20",
        "--messages",
        "30",
        "--server-pid",
        &own_process,
    ];
    let by_request = [
        "--publish-url",
        &url,
        "--publish-body",
        r#"{"channel":"{channel}","data":{"text":"{data}"}}"#,
        "--publish-header",
        "Content-Type: application/json",
        "--subscribe-frame",
        "hello {channel}",
        "--subscribe-wait-ms",
        "300",
    ];
    let curl = format!(
        "while read channel data; do curl -s -o /dev/null -d $data http://{}/channels/$channel; echo; done",
        server.addr()
    );
    let by_program = ["--publish-command", &curl];
    for door in [&by_request[..], &by_program] {
        let args = [&rival, door].concat();
        let report = drive_well(&server, "fanout", "/channels/{channel}", &args);
        assert_eq!(report["publications"], 30, "{door:?}");
        assert_eq!(report["deliveries"], 600, "{door:?}: {report}");
        let memory = &report["series"][0]["server_rss_bytes"];
        assert!(memory.as_f64() > Some(0.0));
    }
}

#[test]
fn a_refusal_to_publish_ends_the_run() {
    let server = Server::start(&[]);
    let url = format!("http://{}/nowhere", server.addr());
    let args = [
        "--rival",
        "--connections",
        "2",
        "--publish-url",
        &url,
        "--settle-ms",
        "100",
    ];
    let (exit, report) = drive(&server, "fanout", "/channels/{channel}", &args);
    assert_eq!(exit.status.code(), Some(1));
    assert!(
        report["failures"][0].as_str().expect("why").contains("404"),
        "{report}"
    );
}

#[test]
fn two_runs_are_put_side_by_side() {
    let server = Server::start(&[]);
    let (first, second, html) = (
        Scratch::new("json"),
        Scratch::new("json"),
        Scratch::new("html"),
    );
    let url = format!("ws://{}/channels/{{channel}}", server.addr());
    for json in [&first, &second] {
        let args = [
            "fanout",
            "--quiet",
            "--url",
            &url,
            "--connections",
            "5",
            "--messages",
            "20",
            "--json",
            json.path(),
        ];
        assert_eq!(run_to_exit(loadgen(&args)).status.code(), Some(0));
    }
    let exit = run_to_exit(loadgen(&[
        "compare",
        first.path(),
        second.path(),
        "--html",
        html.path(),
    ]));
    assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
    let deliveries = exit
        .stdout
        .lines()
        .find(|line| line.starts_with("deliveries "));
    let words: Vec<_> = deliveries.expect("deliveries").split_whitespace().collect();
    assert_eq!(words, ["deliveries", "100", "100", "1.00"]);
    assert!(html.text().contains("Delivery latency"));
    let exit = run_to_exit(loadgen(&["compare", first.path(), "/nowhere.json"]));
    assert_eq!(exit.status.code(), Some(1));
    assert!(exit.stderr.contains("/nowhere.json"), "{}", exit.stderr);
}

#[test]
fn an_impossible_plan_is_refused_with_the_arithmetic() {
    let exit = run_to_exit(loadgen(&[
        "idle",
        "--connections",
        "1000000",
        "--threads",
        "1",
        "--source",
        "127.0.0.9",
    ]));
    assert_eq!(exit.status.code(), Some(2));
    assert!(
        exit.stderr.contains("1000000 connections"),
        "{}",
        exit.stderr
    );
}
