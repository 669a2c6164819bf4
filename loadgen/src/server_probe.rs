//! Asking the server how it is: from its /metrics page, or from /proc by its process number.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::http::{HttpConnection, HttpError, Request};
use crate::metrics_scrape::Snapshot;
use crate::process;
use crate::run::Run;
use crate::sampler::Sampler;

/// Longest wait for the page.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where figures about the server come from.
#[derive(Debug)]
pub enum Probe {
    /// Its /metrics page, over one keep-alive connection.
    Metrics {
        /// Where it listens.
        address: SocketAddr,
        /// Its Host header.
        host: String,
        /// Open between two readings.
        connection: Option<HttpConnection>,
    },
    /// The processes it consists of, on this machine.
    Processes(Vec<u32>),
}

impl Probe {
    /// The probe a run asks for; `None` if there is nothing to ask.
    pub fn of(run: &Run) -> Option<Self> {
        if !run.server_processes.is_empty() {
            return Some(Self::Processes(run.server_processes.clone()));
        }
        run.rival.is_none().then(|| Self::Metrics {
            address: run.address,
            host: run.target.authority(),
            connection: None,
        })
    }

    /// One reading; without it a line on stderr says why. No connection stays open behind it.
    pub fn read(mut self) -> Option<Snapshot> {
        self.try_read()
            .inspect_err(|error| eprintln!("longwire-loadgen: {error}"))
            .ok()
    }

    /// A reading, or why there is none.
    pub fn try_read(&mut self) -> Result<Snapshot, String> {
        match self {
            Self::Metrics {
                address,
                host,
                connection,
            } => scrape(*address, host, connection),
            Self::Processes(processes) => process::read(processes),
        }
    }
}

/// The server's figures over a run.
#[derive(Debug)]
pub struct ServerWatch {
    run: Arc<Run>,
    /// Before the first connection, or what else was asked to begin with; `None` if it says nothing.
    pub first: Option<Snapshot>,
}

impl ServerWatch {
    /// Takes the first reading; without one a line on stderr says so and reports leave it out.
    pub fn begin(run: &Arc<Run>) -> Self {
        Self {
            run: Arc::clone(run),
            first: Probe::of(run).and_then(Probe::read),
        }
    }

    /// Takes another reading, if there was a first one.
    pub fn read_again(&self) -> Option<Snapshot> {
        self.first.as_ref()?;
        Probe::of(&self.run)?.read()
    }

    /// Starts to take samples.
    pub fn sample(&self) -> io::Result<Sampler> {
        let probe = self.first.as_ref().and_then(|_| Probe::of(&self.run));
        Sampler::start(&self.run, probe)
    }
}

fn scrape(
    address: SocketAddr,
    host: &str,
    kept: &mut Option<HttpConnection>,
) -> Result<Snapshot, String> {
    let failed = |error: &dyn std::fmt::Display| format!("no /metrics from {host}: {error}");
    let mut connection = match kept.take().filter(|open| !open.is_stale()) {
        Some(open) => open,
        None => HttpConnection::open(address, SCRAPE_TIMEOUT).map_err(|error| failed(&error))?,
    };
    let request = Request {
        method: "GET",
        path: "/metrics",
        host,
        headers: "",
        body: None,
    };
    let answer = connection.request(&request).map_err(|error| match error {
        HttpError::NotSent(error) | HttpError::NoAnswer(error) => failed(&error),
    })?;
    if answer.status != 200 {
        return Err(failed(&format!("status {}", answer.status)));
    }
    if answer.keep_alive {
        *kept = Some(connection);
    }
    Ok(Snapshot::parse(&String::from_utf8_lossy(&answer.body)))
}
