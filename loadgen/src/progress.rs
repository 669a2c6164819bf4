//! How far a run is, on stderr: a bar on a terminal, else a line now and then.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Progress of one phase.
#[derive(Debug)]
pub struct Progress {
    phase: &'static str,
    whole: u64,
    display: Display,
}

#[derive(Debug)]
enum Display {
    Bar(ProgressBar),
    Lines { last: Instant },
    Quiet,
}

impl Progress {
    /// Begins a phase that is complete at `whole`.
    pub fn begin(phase: &'static str, whole: u64, quiet: bool) -> Self {
        let display = if quiet {
            Display::Quiet
        } else if std::io::stderr().is_terminal() {
            Display::Bar(bar(phase, whole))
        } else {
            Display::Lines {
                last: Instant::now(),
            }
        };
        Self {
            phase,
            whole,
            display,
        }
    }

    /// Shows that `done` of the whole is done; `detail` is made only if it is shown.
    pub fn show(&mut self, done: u64, detail: impl FnOnce() -> String) {
        match &mut self.display {
            Display::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(detail());
            }
            Display::Lines { last } if last.elapsed() >= LINE_INTERVAL => {
                *last = Instant::now();
                eprintln!("{}: {done} of {}  {}", self.phase, self.whole, detail());
            }
            Display::Lines { .. } | Display::Quiet => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

fn bar(phase: &'static str, whole: u64) -> ProgressBar {
    let template = "{prefix:>12} [{bar:30}] {human_pos}/{human_len} {msg}";
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(whole)
        .with_style(
            style
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> "),
        )
        .with_prefix(phase)
}
