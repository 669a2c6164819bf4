//! What the report of every command begins and ends with.

use serde::Serialize;

use crate::clock::cpu_seconds;
use crate::run::Run;

use super::Observed;

/// The verdict on a run, and what every command finds.
#[derive(Clone, Debug, Serialize)]
pub struct Head {
    /// The command.
    #[serde(skip)]
    pub command: &'static str,
    /// Everything went as asked for.
    pub ok: bool,
    /// Ended early by ctrl-C.
    pub interrupted: bool,
    /// Where it connected.
    pub url: String,
    /// CPU time of this program, and of its agents.
    pub loadgen_cpu_seconds: f64,
    /// What it saw.
    #[serde(flatten)]
    pub observed: Observed,
}

impl Head {
    /// Of a run whose agents took `agents_cpu_seconds`. What it found is yet to be judged.
    pub fn new(
        command: &'static str,
        run: &Run,
        agents_cpu_seconds: f64,
        observed: Observed,
    ) -> Self {
        Self {
            command,
            ok: false,
            interrupted: false,
            url: run.target.to_string(),
            loadgen_cpu_seconds: cpu_seconds() + agents_cpu_seconds,
            observed,
        }
    }
}
