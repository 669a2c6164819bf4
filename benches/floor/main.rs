//! Longwire beside the bare kernel, in alternating rounds of one run.
//!
//! The **floor server** (`server/`) does what Longwire does for a load, with nothing around the system
//! calls: one `send` per subscriber and message, one `send` and one `recv` per heartbeat. Both servers stay
//! up through all rounds on the same core, the same load generator drives both from another core, and the
//! figure that counts is the ratio within a round.
//!
//! ```sh
//! cargo build --release --workspace                   # the load generator
//! cargo bench --bench floor                           # all scenarios, 5 rounds each: a quarter of an hour
//! cargo bench --bench floor -- --scenario delivery,heartbeat --rounds 3 --json floor.json
//! cargo bench --bench floor -- --scenario broadcast --connections 1000000 --threads 54 --rounds 1
//! ```
//!
//! | Scenario | What is measured | Goal |
//! |---|---|---|
//! | `delivery` | Server CPU per delivery, 10,000 subscribers, paced by `--rate`, coalescing off | 1.05 x the floor |
//! | `coalescing` | Frames per second at 150 messages/s to 10,000, p99, the highest rate without a 503 | 1.5 M frames/s, p99 at most 2.5 x the floor's time for one pass |
//! | `latency` | Publish to receive with one subscriber on an idle server; over two shards beside it | the floor + 30 us |
//! | `heartbeat` | Server CPU per ping and pong; what the same server takes without pings is subtracted | 1.2 x the floor |
//! | `connect` | Server CPU per accept, handshake and subscription, 256 in flight | 25 us |
//! | `broadcast` | One message to all connections of `--threads` shards, until the last one has it | 1.15 x the floor |
//!
//! Server CPU is what the kernel has charged to the server's process. The floor has no coalescing, no deadlines,
//! no pings of its own and no channels: everybody gets everything. A message that came twice, out of order or not
//! at all, and a connection that was lost, fail the scenario. A goal is not judged where what it presumes was not
//! so: a rate that both held, a core that nobody else had.
//!
//! The exit code is 0 if all could be measured, whether goals are met or not. Under `cargo test` no figure is taken:
//! a smoke check holds the floor server to its counts.

mod child;
mod client;
mod loadgen;
mod options;
mod report;
mod scenarios;
mod server;
mod smoke;

use std::process::ExitCode;

use clap::Parser;

use options::{Mode, Options};

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.mode() {
        Mode::Launch { cores, command } => child::launch(cores, command),
        Mode::Serve { address, threads } => server::serve(address, threads),
        Mode::Measure => scenarios::run(&options),
        Mode::Smoke => smoke::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("floor: {reason}");
            ExitCode::FAILURE
        }
    }
}
