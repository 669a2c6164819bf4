//! All threads of connections, seen from the main thread.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::counters::Totals;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::run::Run;
use crate::worker::{self, Tally};

/// How often the main thread looks at the counters.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The running threads.
#[derive(Debug)]
pub struct Crew {
    run: Arc<Run>,
    threads: Vec<JoinHandle<Result<Tally, String>>>,
    interrupt: Interrupt,
}

impl Crew {
    /// Starts a thread per share; they begin to connect at once.
    pub fn start(run: &Arc<Run>, interrupt: &Interrupt) -> io::Result<Self> {
        let threads = (0..run.shares.len()).map(|thread| {
            let run = Arc::clone(run);
            std::thread::Builder::new()
                .name(format!("connections-{thread}"))
                .spawn(move || worker::run_thread(run, thread))
        });
        Ok(Self {
            run: Arc::clone(run),
            threads: threads.collect::<Result<_, _>>()?,
            interrupt: interrupt.clone(),
        })
    }

    /// Looks at the counters until `done` says so. Ends early when interrupted, or when a thread gave up.
    pub fn watch(&self, mut done: impl FnMut(&Totals) -> bool) {
        while !done(&self.run.totals()) && !self.interrupt.is_set() && !self.has_ended() {
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Waits until every connection was made or failed.
    pub fn watch_connecting(&self, quiet: bool) {
        let wanted = self.run.connections();
        let mut progress = Progress::begin("connecting", wanted, quiet);
        self.watch(|totals| {
            progress.show(totals.connected, || format!("failed {}", totals.failed));
            totals.connected + totals.failed >= wanted
        });
    }

    /// Closes all connections and collects what the threads report.
    pub fn finish(self) -> Result<Tally, String> {
        self.run.stop();
        let mut all = Tally::default();
        for (number, thread) in self.threads.into_iter().enumerate() {
            let ended = thread.join().unwrap_or_else(|_| Err("panicked".to_owned()));
            all.merge(ended.map_err(|error| format!("thread {number}: {error}"))?);
        }
        Ok(all)
    }

    fn has_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }
}
