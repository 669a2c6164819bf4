//! The load generator's Centrifuge clients, and its check, against the server.

use std::net::TcpListener;

use serde_json::Value;

use crate::harness::{Server, command, run_to_exit, write_config};
use crate::loadgen::{Scratch, drive, drive_well, loadgen};

const CONFIG: &str = r#"
[client.token]
hmac_secret_key = "secret"

[client]
insecure = INSECURE

[channel.without_namespace]
history_size = 1000
history_ttl = "300s"
force_recovery = true
allow_subscribe_for_client = true
"#;
const PATH: &str = "/connection/websocket";

fn config(insecure: bool) -> String {
    CONFIG.replace("INSECURE", &insecure.to_string())
}

fn server() -> Server {
    Server::with_config(&config(true))
}

fn with_protocol<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["--protocol", "centrifuge"], args].concat()
}

#[test]
fn tokens_open_connections_and_nothing_else_does() {
    let server = Server::with_config(&config(false));
    let token = [
        "--hmac-secret",
        "secret",
        "--user-bytes",
        "16",
        "--info-bytes",
        "64",
    ];
    let load = [
        "--connections",
        "30",
        "--channels",
        "3",
        "--channel-bytes",
        "16",
        "--hold",
        "0.5",
    ];
    let report = drive_well(
        &server,
        "idle",
        PATH,
        &with_protocol(&[&load[..], &token].concat()),
    );
    assert_eq!(report["connecting"]["connected"], 30);
    assert!(
        !report["command_line"]
            .to_string()
            .contains("hmac-secret secret")
    );
    let (exit, report) = drive(&server, "idle", PATH, &with_protocol(&load));
    assert_eq!(exit.status.code(), Some(1));
    assert_eq!(report["connecting"]["connected"], 0, "{report}");
    assert!(exit.stdout.contains("failed"), "{}", exit.stdout);
}

#[test]
fn pings_are_answered_so_that_nobody_is_lost() {
    let server = Server::with_config(&format!(
        "[client]\nping_interval = \"2s\"\npong_timeout = \"1s\"\ninsecure = true\n{}",
        "[channel.without_namespace]\nallow_subscribe_for_client = true\n"
    ));
    let args = [
        "--connections",
        "10",
        "--hold",
        "4.5",
        "--ping-interval",
        "2",
    ];
    let report = drive_well(&server, "idle", PATH, &with_protocol(&args));
    assert!(report["pings_answered"].as_u64() >= Some(10), "{report}");
}

#[test]
fn every_subscription_gets_everything_at_the_next_offset() {
    let server = server();
    let args = [
        "--connections",
        "20",
        "--channels",
        "5",
        "--subscriptions",
        "3",
        "--messages",
        "50",
        "--publishers",
        "2",
    ];
    let report = drive_well(&server, "fanout", PATH, &with_protocol(&args));
    // 10 on each channel, to 20 x 3 / 5 subscriptions of each.
    assert_eq!(report["deliveries"], 50 * 12, "{report}");
    assert_eq!(report["positions"]["gaps"], 0);
}

#[test]
fn who_is_cut_recovers_exactly_what_was_missed() {
    let server = server();
    let args = [
        "--connections",
        "40",
        "--share",
        "1",
        "--recover",
        "--missed",
        "10",
        "--calm",
        "0.3",
        "--backoff-base-ms",
        "100",
    ];
    let report = drive_well(&server, "storm", PATH, &with_protocol(&args));
    assert_eq!(report["positions"]["recovered"], 40, "{report}");
    assert_eq!(report["positions"]["recovered_publications"], 400);
    assert_eq!(report["return_work"]["recovered_publications"], 400.0);
    assert_eq!(report["stayers"]["stayed"], 40);
    assert_eq!(report["stayers"]["lost_messages"], 0);
}

#[test]
fn who_cannot_recover_is_told_and_counted() {
    let server = Server::with_config(&config(true).replace("1000", "5"));
    let args = [
        "--connections",
        "10",
        "--share",
        "1",
        "--recover",
        "--missed",
        "10",
        "--calm",
        "0.3",
        "--backoff-base-ms",
        "100",
    ];
    let report = drive_well(&server, "storm", PATH, &with_protocol(&args));
    assert_eq!(report["positions"]["told"], 10, "{report}");
    assert_eq!(report["positions"]["recovered"], 0);
}

#[test]
fn impossible_wishes_are_refused() {
    for (args, reason) in [
        (
            &["idle", "--subscriptions", "2"][..],
            "--protocol centrifuge",
        ),
        (
            &["idle", "--protocol", "centrifuge", "--subscriptions", "2"],
            "as many channels",
        ),
        (&["storm", "--recover"], "--protocol centrifuge"),
        (
            &["echo", "--protocol", "centrifuge"],
            "idle, fanout, storm and check",
        ),
        (&["check", "--server-kills", "1"], "--server-command"),
    ] {
        let exit = run_to_exit(loadgen(args));
        assert_eq!(exit.status.code(), Some(2), "{args:?}");
        assert!(exit.stderr.contains(reason), "{args:?}: {}", exit.stderr);
    }
}

/// Runs a check that starts its own server, and disturbs it; gives its report.
fn check(path: &str, args: &[&str]) -> Value {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("bound");
    drop(taken);
    let config = write_config(&config(true));
    let program = command(&[]).get_program().to_owned();
    let program = program.to_str().expect("UTF-8");
    let path_to_config = config.to_str().expect("UTF-8");
    let server = format!("{program} --listen {addr} --config {path_to_config} 2>/dev/null");
    let (json, url) = (Scratch::new("json"), format!("ws://{addr}{path}"));
    let common = [
        "check",
        "--quiet",
        "--url",
        &url,
        "--json",
        json.path(),
        "--server-command",
        &server,
        "--connections",
        "20",
        "--duration",
        "4",
        "--client-kills",
        "15",
        "--slow-readers",
        "2",
        "--slow-ms",
        "1000",
        "--storms",
        "1",
        "--server-kills",
        "1",
        "--freezes",
        "1",
        "--freeze-ms",
        "500",
    ];
    let exit = run_to_exit(loadgen(&[&common, args].concat()));
    std::fs::remove_file(config).expect("remove the configuration");
    assert_eq!(
        exit.status.code(),
        Some(0),
        "{}{}",
        exit.stdout,
        exit.stderr
    );
    assert!(exit.stderr.contains("seed"), "{}", exit.stderr);
    serde_json::from_str(&json.text()).expect("JSON")
}

#[test]
fn a_check_finds_nothing_wrong_and_says_what_happened() {
    let report = check(PATH, &["--protocol", "centrifuge", "--seed", "7"]);
    assert_eq!(report["seed"], 7);
    assert_eq!(report["client_kills"], 15);
    assert_eq!(report["server_kills"], 1);
    // Four channels, before the kill and after it.
    assert_eq!(report["epochs"], 8, "{report}");
    assert!(report["resumed"].as_u64() > Some(0), "{report}");
    assert!(report["told_new_epoch"].as_u64() >= Some(20), "{report}");
}

#[test]
fn a_check_without_positions_holds_clients_against_the_answers() {
    let report = check("/channels/{channel}", &[]);
    assert!(report["deliveries"].as_u64() > Some(100), "{report}");
    assert_eq!(report["resumed"], 0);
}
