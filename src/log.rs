//! Logging: a writer thread behind a bounded queue, so that a blocked stderr never blocks a shard, and a limiter
//! for lines a peer can cause.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::{SetGlobalDefaultError, set_global_default};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};

use crate::config::{LogFormat, LogLevel};

/// Lines that wait for stderr; further ones are dropped and counted.
const QUEUED_LINES: usize = 8_192;

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Keeps the writer thread; dropping it writes what is queued, for a second at most.
#[must_use = "the log stops when the guard is dropped"]
pub struct LogGuard {
    _worker: WorkerGuard,
}

/// Starts the log on stderr. Call it once, before any shard splits off its file table.
///
/// # Errors
/// When the process has a log already.
pub fn init(level: LogLevel, format: LogFormat) -> Result<LogGuard, SetGlobalDefaultError> {
    let (writer, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUED_LINES)
        .thread_name("log")
        .finish(io::stderr());
    let dropped = writer.error_counter();
    let builder = tracing_subscriber::fmt()
        .with_max_level(max_level(level))
        .with_ansi(io::stderr().is_terminal())
        .with_writer(writer);
    match format {
        LogFormat::Text => set_global_default(builder.finish())?,
        LogFormat::Json => set_global_default(builder.json().finish())?,
    }
    DROPPED.get_or_init(|| dropped);
    Ok(LogGuard { _worker: worker })
}

/// Lines dropped since the start because stderr did not keep up.
pub fn dropped_lines() -> u64 {
    DROPPED
        .get()
        .map_or(0, |counter| counter.dropped_lines() as u64)
}

fn max_level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Lets one line of a kind through per interval, and counts the rest.
///
/// For anything a peer can cause: one limiter per shard and call site.
#[derive(Clone, Debug)]
pub struct RateLimit {
    interval_s: u32,
    last_s: Option<u32>,
    suppressed: u64,
}

impl RateLimit {
    /// One line per `interval_s` seconds.
    pub const fn new(interval_s: u32) -> Self {
        Self {
            interval_s,
            last_s: None,
            suppressed: 0,
        }
    }

    /// Asks to log at `now_s`, a monotonic clock in seconds. `Some` is a yes, with the number of lines suppressed
    /// since the last one.
    pub fn allow(&mut self, now_s: u32) -> Option<u64> {
        // Wrapping, so that the clock may pass its end.
        let is_early = |last: u32| now_s.wrapping_sub(last) < self.interval_s;
        if self.last_s.is_some_and(is_early) {
            self.suppressed += 1;
            return None;
        }
        self.last_s = Some(now_s);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_passes_and_then_one_per_interval() {
        let mut limit = RateLimit::new(10);
        assert_eq!(limit.allow(0), Some(0));
        assert_eq!(limit.allow(0), None);
        assert_eq!(limit.allow(9), None);
        assert_eq!(limit.allow(10), Some(2));
        assert_eq!(limit.allow(19), None);
        assert_eq!(limit.allow(500), Some(1));
    }

    #[test]
    fn the_clock_may_wrap() {
        let mut limit = RateLimit::new(10);
        assert_eq!(limit.allow(u32::MAX - 1), Some(0));
        assert_eq!(limit.allow(5), None);
        assert_eq!(limit.allow(8), Some(1));
    }

    #[test]
    fn a_second_log_is_refused() {
        let first = init(LogLevel::Error, LogFormat::Json);
        assert!(first.is_ok());
        assert!(init(LogLevel::Error, LogFormat::Text).is_err());
        assert_eq!(dropped_lines(), 0);
    }
}
