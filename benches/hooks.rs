//! What a call to the backend costs the hooks' thread: calls per second, CPU per call, memory.
//!
//! `cargo bench --bench hooks`; the backend is in the same process, in threads of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;
use std::{fs, thread};

use longwire::hooks::{
    CallId, Completion, HookCall, HookOutcome, HooksSettings, KeySource, Keys, Target,
    TargetSettings, start,
};

const CALLS: u32 = 100_000;
/// Calls under way at a time.
const WINDOW: u32 = 1000;
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"result\":{}}";

struct Sink(Sender<HookOutcome>);

impl Completion for Sink {
    fn complete(&mut self, _id: CallId, outcome: HookOutcome) {
        let _ = self.0.send(outcome);
    }

    fn keys(&mut self, _shard: Option<u16>, _source: KeySource, _keys: Keys) {}

    fn flush(&mut self) -> bool {
        false
    }
}

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || answer(stream.unwrap()));
        }
    });
    for max_connections in [1, 8, 64] {
        measure(&url, max_connections);
    }
}

/// Answers whatever comes in one read; a call is one write.
fn answer(mut stream: TcpStream) {
    let mut request = [0; 4096];
    while stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
        if stream.write_all(ANSWER).is_err() {
            return;
        }
    }
}

fn measure(url: &str, max_connections: usize) {
    let target = TargetSettings {
        name: "hook".to_owned(),
        url: url.to_owned(),
        timeout_ms: 10_000,
        http_headers: vec!["Cookie".to_owned()],
        static_headers: Vec::new(),
    };
    let mut settings = HooksSettings {
        targets: vec![target],
        ..HooksSettings::default()
    };
    settings.pool.max_connections = max_connections;
    let (sender, outcomes) = channel();
    let resident_before = resident_kib();
    let hooks = start(&settings, Sink(sender)).unwrap();
    let cpu_before_s = hooks_cpu_s();
    let began = Instant::now();
    for tag in 0..CALLS + WINDOW {
        if tag >= WINDOW {
            let outcome = outcomes.recv().unwrap();
            assert!(matches!(outcome, HookOutcome::Response { status: 200, .. }));
        }
        if tag < CALLS {
            hooks.submit(call(tag)).unwrap();
        }
    }
    let took_s = began.elapsed().as_secs_f64();
    let cpu_us = (hooks_cpu_s() - cpu_before_s) * 1e6 / f64::from(CALLS);
    println!(
        "{max_connections:>3} connections: {:>7.0} calls/s, {cpu_us:.1} us CPU per call, {} KiB more memory",
        f64::from(CALLS) / took_s,
        resident_kib().saturating_sub(resident_before),
    );
}

fn call(tag: u32) -> HookCall {
    let id = CallId {
        shard: 0,
        session: 0,
        tag,
    };
    HookCall {
        id,
        target: Target(0),
        body: br#"{"client":"c","transport":"websocket","protocol":"json","encoding":"json","user":"u","channel":"c"}"#.to_vec(),
        headers: vec![("Cookie".to_owned(), "session=0123456789abcdef".to_owned())],
        deadline_ms: 10_000,
    }
}

/// CPU time of the threads that make the calls.
fn hooks_cpu_s() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let times = tasks.filter_map(|task| {
        let path = task.ok()?.path();
        let is_hooks = fs::read_to_string(path.join("comm")).ok()?.trim() == "hooks";
        let times = fs::read_to_string(path.join("schedstat")).ok()?;
        let ns: f64 = times.split(' ').next()?.parse().ok()?;
        is_hooks.then_some(ns / 1e9)
    });
    times.sum()
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}
