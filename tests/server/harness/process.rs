//! The server as a process: started, asked, stopped.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Metrics, PATIENCE, Peer, Response, WebSocket, upgrade_request, wait_until};

/// The binary under test with these arguments, and without the environment's own settings.
pub fn command(args: &[&str]) -> Command {
    let binary =
        std::env::var_os("LONGWIRE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_longwire").into());
    let mut command = Command::new(binary);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("LONGWIRE_") {
            command.env_remove(key);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// The same through a script of `tests/server/launch`, which gets `argument` and then the command.
pub fn command_through(script: &str, argument: &str, args: &[&str]) -> Command {
    let direct = command(args);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/launch/").to_owned() + script;
    let interpreter = match script.ends_with(".py") {
        true => "python3",
        false => "sh",
    };
    let mut through = Command::new(interpreter);
    for (key, value) in direct.get_envs() {
        match value {
            Some(value) => through.env(key, value),
            None => through.env_remove(key),
        };
    }
    through.args([&path, argument]).arg(direct.get_program());
    through.args(direct.get_args()).stdin(Stdio::null());
    through
}

/// What a command left behind.
#[derive(Debug)]
pub struct Exit {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command that is expected to end by itself.
pub fn run_to_exit(mut command: Command) -> Exit {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawn");
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    let status = wait_for_exit(&mut child);
    if status.is_none() {
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
    let text = |pipe: Receiver<String>| pipe.into_iter().collect::<String>();
    let (stdout, stderr) = (text(stdout), text(stderr));
    let status = status.unwrap_or_else(|| panic!("still running:\n{stdout}{stderr}"));
    Exit {
        status,
        stdout,
        stderr,
    }
}

/// Writes a configuration file of its own for this test.
pub fn write_config(toml: &str) -> PathBuf {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let name = format!("config-{}-{serial}.toml", std::process::id());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, toml).expect("write the configuration");
    path
}

/// A running server; killed when dropped, with its log shown if the test failed.
pub struct Server {
    child: Child,
    addr: SocketAddr,
    /// Where connections begin with a PROXY protocol header, if anywhere.
    proxied_addr: Option<SocketAddr>,
    /// Collects what it logs; ends with the process.
    log: Option<JoinHandle<String>>,
}

impl Server {
    /// Starts on a free loopback port and waits until it serves.
    pub fn start(args: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", args)
    }

    /// Starts with each `key=value` set.
    pub fn with(settings: &[&str]) -> Self {
        let args: Vec<_> = settings.iter().flat_map(|s| ["--set", s]).collect();
        Self::start(&args)
    }

    /// Starts with this configuration file.
    pub fn with_config(toml: &str) -> Self {
        let path = write_config(toml);
        let server = Self::start(&["--config", path.to_str().expect("UTF-8")]);
        std::fs::remove_file(path).expect("remove the configuration");
        server
    }

    /// Starts on this address and waits until it serves.
    pub fn start_on(listen: &str, args: &[&str]) -> Self {
        Self::spawn(command(&[&["--listen", listen], args].concat()))
    }

    /// Starts as this command says and waits until it serves.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawn");
        let log = collect(child.stderr.take().expect("piped"));
        let log = Some(std::thread::spawn(|| log.into_iter().collect()));
        let stdout = collect(child.stdout.take().expect("piped"));
        let mut server = Self {
            child,
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            proxied_addr: None,
            log,
        };
        (server.addr, server.proxied_addr) = listening_on(&stdout);
        server
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where connections begin with a PROXY protocol header.
    pub fn proxied_addr(&self) -> SocketAddr {
        self.proxied_addr
            .expect("a listener for the PROXY protocol")
    }

    /// Its process, to do things to.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The `Host` header of this server.
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    pub fn connect(&self) -> Peer {
        Peer::connect(self.addr)
    }

    /// Sends raw bytes on a connection of its own and reads one response.
    pub fn exchange(&self, raw: impl AsRef<[u8]>) -> Response {
        let mut peer = self.connect();
        peer.send(raw);
        peer.response()
    }

    /// A request on a connection of its own; `extra` holds whole header lines, each with its CRLF.
    pub fn request(&self, method: &str, path: &str, extra: &str, body: &[u8]) -> Response {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{extra}Content-Length: {}\r\n\r\n",
            self.addr,
            body.len()
        );
        self.exchange([head.as_bytes(), body].concat())
    }

    pub fn get(&self, path: &str) -> Response {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.addr
        );
        self.exchange(head)
    }

    /// Publishes as `curl -d` would until it is sequenced (503 says it was not); gives offset and epoch.
    pub fn publish(&self, channel: &str, body: impl AsRef<[u8]>) -> (u64, String) {
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        let path = format!("/channels/{channel}");
        let mut answer = self.request("POST", &path, form, body.as_ref());
        wait_until("a publication is sequenced", || {
            if answer.status == 503 {
                answer = self.request("POST", &path, form, body.as_ref());
            }
            answer.status != 503
        });
        assert_eq!(answer.status, 200, "{:?}", answer.text());
        let json = answer.json();
        let offset = json["offset"].as_u64().expect("an offset");
        (offset, json["epoch"].as_str().expect("an epoch").to_owned())
    }

    /// Upgrades, or gives the answer that refused it. After the 101 the subscription stands.
    pub fn try_websocket(&self, path: &str, extra: &str) -> Result<WebSocket, Response> {
        let mut peer = self.connect();
        peer.send(upgrade_request(path, &self.host(), extra));
        let answer = peer.response();
        if answer.status != 101 {
            return Err(answer);
        }
        Ok(WebSocket { peer })
    }

    pub fn websocket(&self, path: &str) -> WebSocket {
        self.try_websocket(path, "")
            .unwrap_or_else(|answer| panic!("{path} refused: {answer:?}"))
    }

    pub fn subscribe(&self, channel: &str) -> WebSocket {
        self.websocket(&format!("/channels/{channel}"))
    }

    /// Open files in the table of each shard's thread.
    pub fn open_files_by_shard(&self) -> Vec<usize> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let tasks = std::fs::read_dir(tasks).expect("its threads");
        tasks
            .map(|task| task.expect("a thread").path())
            .filter(|task| {
                std::fs::read_to_string(task.join("comm"))
                    .is_ok_and(|comm| comm.starts_with("shard-"))
            })
            .map(|task| {
                std::fs::read_dir(task.join("fd"))
                    .expect("its files")
                    .count()
            })
            .collect()
    }

    pub fn metrics(&self) -> Metrics {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200);
        Metrics::parse(&answer.text())
    }

    /// Waits until the closes counted for this reason reach `count`.
    pub fn wait_for_closes(&self, reason: &str, count: f64) {
        let what = format!("{count} closes count as {reason}");
        wait_until(&what, || self.metrics().closes(reason) >= count);
    }

    pub fn terminate(&self) {
        // The process may be gone already, and then there is nothing to end.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
    }

    /// Waits for the end.
    pub fn exit_status(&mut self) -> ExitStatus {
        wait_for_exit(&mut self.child).expect("the server must end")
    }

    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(log) = self.log.take().filter(|_| std::thread::panicking()) {
            let log = log.join().unwrap_or_default();
            eprintln!("--- the server's log ---\n{log}--- end of log ---");
        }
    }
}

/// The addresses in the lines `listening on ADDR` and `listening on ADDR for the PROXY protocol`, up to the line after.
fn listening_on(stdout: &Receiver<String>) -> (SocketAddr, Option<SocketAddr>) {
    let deadline = Instant::now() + PATIENCE;
    let (mut plain, mut proxied) = (None, None);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = stdout.recv_timeout(left).expect("`listening on` on stdout");
        match line.trim_end().strip_prefix("listening on ") {
            Some(text) => match text.strip_suffix(" for the PROXY protocol") {
                Some(addr) => proxied = Some(addr.parse().expect("an address")),
                None => plain = plain.or(Some(text.parse().expect("an address"))),
            },
            None if plain.is_some() => return (plain.expect("some"), proxied),
            None => {}
        }
    }
}

fn wait_for_exit(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("wait") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// Reads a pipe to its end on a thread, line by line, whether or not anyone listens.
pub fn collect(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            line.clear();
        }
    });
    receiver
}
