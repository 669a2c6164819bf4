//! Takes samples while a run goes on, from a thread of its own: a server that is slow to answer holds
//! up nothing but the next sample.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use crate::clock::{now_ns, seconds_between};
use crate::metrics_scrape::Snapshot;
use crate::run::Run;
use crate::series::{Sample, Series};
use crate::server_probe::Probe;

/// The running thread.
#[derive(Debug)]
pub struct Sampler {
    thread: JoinHandle<Sampled>,
    /// Dropped to end it.
    stop: Sender<()>,
}

/// What it found.
#[derive(Clone, Debug, Default)]
pub struct Sampled {
    /// All samples; the last one is of the moment it was stopped.
    pub series: Series,
    /// Open connections of each of the server's shards at that moment.
    pub shard_connections: Vec<f64>,
}

impl Sampler {
    /// Starts; the first sample is of now. `probe` is `None` if the server says nothing.
    pub fn start(run: &Arc<Run>, probe: Option<Probe>) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let sampling = Sampling {
            run: Arc::clone(run),
            probe,
            started_ns: now_ns(),
        };
        let thread = std::thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(move || {
                sampling.go_on(|interval| {
                    stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout)
                })
            })?;
        Ok(Self { thread, stop })
    }

    /// Takes the last sample and ends.
    pub fn finish(self) -> Sampled {
        drop(self.stop);
        self.thread.join().unwrap_or_default()
    }
}

struct Sampling {
    run: Arc<Run>,
    probe: Option<Probe>,
    started_ns: u64,
}

impl Sampling {
    fn go_on(mut self, mut wait: impl FnMut(std::time::Duration) -> bool) -> Sampled {
        let mut sampled = Sampled::default();
        loop {
            let last = !wait_unless_first(&sampled.series, &mut wait);
            let server = self.probe.as_mut().and_then(|probe| probe.try_read().ok());
            sampled.series.push(self.sample(server.as_ref()));
            if last {
                let server = server.unwrap_or_default();
                sampled.shard_connections = server.per_shard("longwire_connections");
                return sampled;
            }
        }
    }

    fn sample(&self, server: Option<&Snapshot>) -> Sample {
        let totals = self.run.totals();
        let of_server = |name| server.and_then(|server| server.total(name));
        Sample {
            at_s: seconds_between(self.started_ns, now_ns()),
            open: totals.open(),
            connected: totals.connected,
            failed: totals.failed,
            lost: totals.lost,
            replaced: totals.replaced,
            pings: totals.pings,
            messages: totals.messages,
            server_rss_bytes: of_server("process_resident_memory_bytes"),
            server_cpu_seconds: of_server("process_cpu_seconds_total"),
        }
    }
}

/// Waits for the time of the next sample; false once there is to be only one more.
fn wait_unless_first(series: &Series, wait: &mut impl FnMut(std::time::Duration) -> bool) -> bool {
    series.samples().is_empty() || wait(series.interval())
}
