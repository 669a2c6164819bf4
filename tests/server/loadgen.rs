//! The load generator against the server: what it says must be what happened.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::harness::{Exit, Server, command, run_to_exit};

/// The load generator, without the server's settings in its environment.
fn loadgen(args: &[&str]) -> Command {
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
    command.args(args).stdin(Stdio::null());
    command
}

/// A file of its own that is gone when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(extension: &str) -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("loadgen-{}-{serial}.{extension}", std::process::id());
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.0).expect("a report")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs a command against `path` of the server; gives what it left and its figures.
fn drive(server: &Server, subcommand: &str, path: &str, args: &[&str]) -> (Exit, Value) {
    let json = Scratch::new("json");
    let url = format!("ws://{}{path}", server.addr());
    let common = [subcommand, "--quiet", "--url", &url, "--json", json.path()];
    let exit = run_to_exit(loadgen(&[&common, args].concat()));
    let report = std::fs::read_to_string(&json.0).unwrap_or_default();
    (exit, serde_json::from_str(&report).unwrap_or_default())
}

/// The same, and everything must have gone as it should.
fn drive_well(server: &Server, subcommand: &str, path: &str, args: &[&str]) -> Value {
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
