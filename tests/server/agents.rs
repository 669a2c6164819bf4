//! The load generator on several hosts, each played by a process: one report, and one fate.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{PATIENCE, Server, collect, run_to_exit, wait_until};
use crate::loadgen::{Scratch, drive, drive_well, loadgen};

/// A waiting agent; killed when dropped.
struct Agent {
    child: Child,
    addr: SocketAddr,
}

impl Agent {
    fn start(args: &[&str]) -> Self {
        let listen = ["agent", "--listen", "127.0.0.1:0"];
        let mut child = loadgen(&[&listen, args].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("spawn");
        let stdout = collect(child.stdout.take().expect("piped"));
        let line = stdout.recv_timeout(PATIENCE).expect("a line");
        let addr = line.trim_end().strip_prefix("listening on ");
        let addr = addr.and_then(|addr| addr.parse().ok()).expect("an address");
        Self { child, addr }
    }

    fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of `--agents`.
fn names(agents: &[Agent]) -> String {
    let names: Vec<_> = agents.iter().map(|agent| agent.addr.to_string()).collect();
    names.join(",")
}

fn two_agents() -> [Agent; 2] {
    [Agent::start(&[]), Agent::start(&[])]
}

/// An `idle` that goes on until it is stopped.
fn hold(server: &Server, agents: &[Agent], connections: &str) -> Command {
    let url = format!("ws://{}/channels/{{channel}}", server.addr());
    let names = names(agents);
    let args = [
        "idle",
        "--quiet",
        "--url",
        &url,
        "--hold",
        "600",
        "--connections",
        connections,
        "--agents",
        &names,
    ];
    loadgen(&args)
}

fn wait_for_subscriptions(server: &Server, count: f64) {
    wait_until(&format!("{count} subscriptions"), || {
        server.metrics().sum("longwire_subscriptions") == count
    });
}

fn sum(agents: &Value, figure: &str) -> u64 {
    let agents = agents.as_array().expect("agents");
    let each = agents
        .iter()
        .map(|agent| agent[figure].as_u64().expect("a number"));
    each.sum()
}

#[test]
fn idle_connections_of_all_agents_are_in_one_report() {
    let server = Server::start(&["--shards", "2"]);
    let agents = two_agents();
    let (names, html) = (names(&agents), Scratch::new("html"));
    let args = [
        "--connections",
        "41",
        "--hold",
        "1.5",
        "--agents",
        &names,
        "--html",
        html.path(),
    ];
    let report = drive_well(&server, "idle", "/channels/{channel}", &args);
    let connecting = &report["connecting"];
    assert_eq!(
        (&connecting["connected"], &connecting["threads"]),
        (&41.into(), &2.into())
    );
    assert!(connecting["connect_latency"]["p99_us"].as_f64() > Some(0.0));
    let parts = &connecting["agents"];
    assert_eq!(
        (&parts[0]["connected"], &parts[1]["connected"]),
        (&21.into(), &20.into())
    );
    // Two processes of one host.
    assert_eq!(parts[0]["clock"]["error_ns"], 0);
    let series = report["series"].as_array().expect("samples");
    assert_eq!(series[series.len() - 1]["open"], 41);
    assert!(report["server"]["rss_after_bytes"].as_f64() > Some(0.0));
    let page = html.text();
    for agent in &agents {
        assert!(page.contains(&agent.addr.to_string()));
    }
    // Both are ready for more.
    let again = ["--connections", "4", "--hold", "0", "--agents", &names];
    let report = drive_well(&server, "idle", "/channels/{channel}", &again);
    assert_eq!(report["connecting"]["connected"], 4);
}

#[test]
fn messages_are_checked_over_all_agents() {
    let server = Server::start(&["--shards", "2"]);
    let agents = two_agents();
    let names = names(&agents);
    let args = [
        "--connections",
        "31",
        "--channels",
        "3",
        "--publishers",
        "2",
        "--messages",
        "60",
        "--agents",
        &names,
    ];
    let report = drive_well(&server, "fanout", "/channels/{channel}", &args);
    // Channel 0 has one subscriber more than the others.
    assert_eq!(report["deliveries"], 11 * 20 + 10 * 20 + 10 * 20);
    assert_eq!(sum(&report["connecting"]["agents"], "messages"), 620);
    for fault in [
        "lost_messages",
        "duplicated_messages",
        "reordered_subscribers",
    ] {
        assert_eq!(report[fault], 0, "{fault}");
    }
    assert!(report["delivery_latency"]["p99_us"].as_f64() > Some(0.0));
}

#[test]
fn storms_and_echoes_begin_everywhere() {
    let server = Server::with(&["echo=true"]);
    let agents = two_agents();
    let names = names(&agents);
    let storm = [
        "--connections",
        "60",
        "--calm",
        "0.5",
        "--rate",
        "40",
        "--backoff-base-ms",
        "100",
        "--agents",
        &names,
    ];
    let report = drive_well(&server, "storm", "/channels/{channel}", &storm);
    assert_eq!((&report["cut"], &report["back"]), (&30.into(), &30.into()));
    let stayers = &report["stayers"];
    assert_eq!(
        (&stayers["stayed"], &stayers["lost_messages"]),
        (&30.into(), &0.into())
    );
    assert!(stayers["delivery_latency"]["p99_us"].as_f64() > Some(0.0));
    let echo = [
        "--connections",
        "8",
        "--duration",
        "0.3",
        "--agents",
        &names,
    ];
    let report = drive_well(&server, "echo", "/echo", &echo);
    assert!(report["echoed"].as_u64() > Some(0), "{report}");
    assert_eq!(
        (&report["echoed"], &report["missing"]),
        (&report["sent"], &0.into())
    );
}

#[test]
fn a_killed_agent_ends_the_run_of_all() {
    let server = Server::start(&["--shards", "1"]);
    let mut agents = two_agents();
    let mut controller = hold(&server, &agents, "20");
    let mut controller = controller.stderr(Stdio::piped()).spawn().expect("spawn");
    let stderr = collect(controller.stderr.take().expect("piped"));
    wait_for_subscriptions(&server, 20.0);
    agents[1].kill();
    wait_until("the controller ends", || {
        controller.try_wait().expect("wait").is_some()
    });
    let status = controller.wait().expect("wait");
    let stderr: String = stderr.into_iter().collect();
    assert_eq!(status.code(), Some(1), "{stderr}");
    let name = format!("agent {}", agents[1].addr);
    assert!(stderr.contains(&name), "{stderr}");
    // The other one has let go too, and takes the next run.
    wait_for_subscriptions(&server, 0.0);
    let alone = agents[0].addr.to_string();
    let args = ["--connections", "3", "--hold", "0", "--agents", &alone];
    wait_until("the other agent is free", || {
        drive(&server, "idle", "/channels/{channel}", &args)
            .0
            .status
            .success()
    });
}

#[test]
fn a_second_controller_is_sent_away() {
    let server = Server::start(&["--shards", "1"]);
    let agents = [Agent::start(&[])];
    let mut first = hold(&server, &agents, "5").spawn().expect("spawn");
    wait_for_subscriptions(&server, 5.0);
    let name = names(&agents);
    let (exit, _) = drive(&server, "idle", "/channels/{channel}", &["--agents", &name]);
    assert_eq!(exit.status.code(), Some(1));
    assert!(
        exit.stderr.contains("another controller"),
        "{}",
        exit.stderr
    );
    assert!(exit.stderr.contains(&name), "{}", exit.stderr);
    assert_eq!(server.metrics().sum("longwire_subscriptions"), 5.0);
    // Without its controller an agent lets go.
    first.kill().expect("kill");
    first.wait().expect("wait");
    wait_for_subscriptions(&server, 0.0);
}

#[test]
fn agents_want_to_hear_their_token() {
    let server = Server::start(&["--shards", "1"]);
    let agents = [Agent::start(&["--token", "open-sesame"])];
    let (name, html) = (names(&agents), Scratch::new("html"));
    let idle = |more: &[&str]| {
        let args = ["--connections", "3", "--hold", "0", "--agents", &name];
        drive(
            &server,
            "idle",
            "/channels/{channel}",
            &[&args, more].concat(),
        )
    };
    for wrong in [&[][..], &["--token", "open-barley"]] {
        let (exit, _) = idle(wrong);
        assert_eq!(exit.status.code(), Some(1), "{wrong:?}");
        assert!(exit.stderr.contains("not the token"), "{}", exit.stderr);
    }
    let (exit, report) = idle(&["--token", "open-sesame", "--html", html.path()]);
    assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
    assert!(!report.to_string().contains("open-sesame") && !html.text().contains("open-sesame"));
    // Reachable by others, it must have one.
    let exit = run_to_exit(loadgen(&["agent", "--listen", "0.0.0.0:0"]));
    assert_eq!(exit.status.code(), Some(2));
    assert!(exit.stderr.contains("--token"), "{}", exit.stderr);
}

#[test]
fn an_agent_refuses_an_impossible_part_with_the_arithmetic() {
    let server = Server::start(&["--shards", "1"]);
    let agents = two_agents();
    let names = names(&agents);
    let args = [
        "--connections",
        "3000000",
        "--threads",
        "1",
        "--source",
        "127.0.0.9",
        "--agents",
        &names,
    ];
    let (exit, _) = drive(&server, "idle", "/channels/{channel}", &args);
    assert_eq!(exit.status.code(), Some(2), "{}", exit.stderr);
    let reason = format!("agent {}: 1500000 connections on 1 threads", agents[0].addr);
    assert!(exit.stderr.contains(&reason), "{}", exit.stderr);
    assert_eq!(server.metrics().sum("longwire_subscriptions"), 0.0);
}

#[test]
fn an_agent_that_is_not_there_is_named() {
    let server = Server::start(&["--shards", "1"]);
    let mut agent = Agent::start(&[]);
    agent.kill();
    let name = agent.addr.to_string();
    let (exit, _) = drive(&server, "idle", "/channels/{channel}", &["--agents", &name]);
    assert_eq!(exit.status.code(), Some(1));
    assert!(exit.stderr.contains(&name), "{}", exit.stderr);
}

#[test]
fn a_stranger_is_told_why_and_bounded() {
    let agent = Agent::start(&[]);
    let answer = |greeting: &[u8]| {
        let mut stream = TcpStream::connect(agent.addr).expect("connect");
        // An agent that closes with unread bytes resets the connection.
        let _ = stream.write_all(greeting);
        let mut line = String::new();
        let _ = BufReader::new(stream).read_line(&mut line);
        line
    };
    let other_version = answer(b"{\"Greet\":{\"protocol\":4711,\"token\":null}}\n");
    assert!(other_version.contains("version 4711"), "{other_version}");
    assert!(answer(b"\"Status\"\n").contains("greets first"));
    assert_eq!(answer(&vec![b' '; 1 << 20]), "");
}
