//! The load generator: run with a server's address, read back as figures.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};

use serde::Deserialize;

use crate::child::{Server, on_cores};

/// A run that goes on.
pub struct Running(Child);

/// What a run of any command found; what a command does not say stays empty.
#[derive(Debug, Deserialize)]
pub struct Found {
    pub ok: bool,
    pub connecting: Connecting,
    #[serde(default)]
    pub publications_per_s: f64,
    #[serde(default)]
    pub refused: u64,
    #[serde(default)]
    pub deliveries_per_s: f64,
    pub delivery_latency: Option<Latency>,
    pub last_delivery_latency: Option<Latency>,
    pub server: Option<ServerWork>,
}

/// How connecting went.
#[derive(Debug, Deserialize)]
pub struct Connecting {
    pub connected: u64,
    pub connect_seconds: f64,
}

/// Percentiles.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Latency {
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
}

/// What publishing cost the server.
#[derive(Debug, Deserialize)]
pub struct ServerWork {
    #[serde(default)]
    pub cpu_per_delivery_us: Option<f64>,
}

/// Starts `command` with `arguments`, separated by spaces, on `cores` (all if empty).
pub fn start(
    cores: &str,
    server: &Server,
    command: &str,
    arguments: &str,
) -> Result<Running, String> {
    let program = program()?;
    let mut load = on_cores(cores, &program).map_err(|error| format!("{program}: {error}"))?;
    load.args([command, "--quiet", "--json", "-"]);
    load.args(["--url", &channel_url(server.address)]);
    load.args(["--server-pid", &server.pid().to_string()]);
    if !cores.is_empty() {
        load.arg("--pin");
    }
    load.args(arguments.split_ascii_whitespace());
    let child = load.stdout(Stdio::piped()).spawn();
    child
        .map(Running)
        .map_err(|error| format!("{program}: {error}"))
}

/// Runs a command to its end.
pub fn run(cores: &str, server: &Server, command: &str, arguments: &str) -> Result<Found, String> {
    start(cores, server, command, arguments)?.finish()
}

impl Running {
    /// Waits for its figures.
    pub fn finish(self) -> Result<Found, String> {
        let output = self.0.wait_with_output();
        let output = output.map_err(|error| format!("the load generator: {error}"))?;
        serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("the load generator ended with {}: {error}", output.status))
    }
}

impl Found {
    /// Itself, if every message arrived as it should.
    pub fn sound(self) -> Result<Self, String> {
        match self.ok {
            true => Ok(self),
            false => Err(format!(
                "the load generator found something wrong: {self:?}"
            )),
        }
    }

    pub fn delivery_latency(&self) -> Result<Latency, String> {
        self.delivery_latency
            .ok_or_else(|| "nothing was delivered".to_owned())
    }

    /// From when a message was due until the last subscriber had it, the median over all messages.
    pub fn pass_ms(&self) -> Result<f64, String> {
        let latency = self.last_delivery_latency;
        let latency = latency.ok_or_else(|| "nothing was delivered".to_owned())?;
        Ok(latency.p50_us / 1000.0)
    }

    pub fn cpu_per_delivery_us(&self) -> Result<f64, String> {
        let server = self.server.as_ref();
        let each = server.and_then(|server| server.cpu_per_delivery_us);
        each.ok_or_else(|| "no CPU time of the server".to_owned())
    }
}

fn channel_url(address: SocketAddr) -> String {
    format!("ws://{address}/channels/{{channel}}")
}

/// The load generator beside the server.
fn program() -> Result<String, String> {
    let path = Path::new(env!("CARGO_BIN_EXE_longwire")).with_file_name("longwire-loadgen");
    match path.exists() {
        true => Ok(path.to_string_lossy().into_owned()),
        false => Err(format!(
            "{} is not there: cargo build --release --workspace",
            path.display()
        )),
    }
}
