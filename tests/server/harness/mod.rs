//! What the tests stand on: a server process, a peer on a socket, HTTP answers, WebSocket frames, metrics.

mod metrics;
mod peer;
mod process;
mod websocket;

pub use metrics::Metrics;
pub use peer::{Delivery, End, Peer, Response};
pub use process::{Exit, Server, collect, command, command_through, run_to_exit, write_config};
pub use websocket::{
    BINARY, CLOSE, CONTINUATION, FIN, Frame, PING, PONG, RSV1, SAMPLE_ACCEPT, TEXT, WebSocket,
    close_payload, masked_frame, masked_header, upgrade_request,
};

use std::time::{Duration, Instant};

/// How long a test waits for something that must happen, on a machine busy with everything else.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls until `condition` holds; fails the test, naming `what`, when patience runs out.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
