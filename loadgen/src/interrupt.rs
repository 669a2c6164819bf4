//! ctrl-C: the first stops the run early, with its report; the second ends the program at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Exit code of the second signal: what a shell shows for a program that SIGINT ended.
const INTERRUPTED_EXIT_CODE: i32 = 130;

/// Becomes true once.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over SIGINT and SIGTERM.
    pub fn install() -> io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag false and sets it, the second exits.
            flag::register_conditional_shutdown(signal, INTERRUPTED_EXIT_CODE, Arc::clone(&flag))?;
            flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    /// True after the first signal.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
