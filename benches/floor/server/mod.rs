//! The floor server: what a fan-out costs when nothing but the kernel is asked.
//!
//! Each thread has its own file table and listener, one `poll` over whatever is not yet a WebSocket, and
//! its WebSockets in a plain list. Threads share one log of [`Entry`]; each does every entry in order.

mod heartbeat;
mod http;
mod shared;
mod thread;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use longwire::net;

use shared::Shared;
use thread::Thread;

/// Serves until the process is killed, or a thread fails. Says `listening on ADDR` once all threads do.
pub fn serve(address: SocketAddr, threads: usize) -> Result<(), String> {
    net::raise_file_limit();
    let address = net::ensure_port_free(address).map_err(|error| format!("{address}: {error}"))?;
    // Before the threads have file tables of their own: the bells mean the same in each.
    let shared = Shared::new(threads).map_err(|error| format!("no eventfd: {error}"))?;
    let shared = Arc::new(shared);
    let (events, inbox) = channel();
    for number in 0..threads {
        let (shared, events) = (Arc::clone(&shared), events.clone());
        let run = move || run_thread(number, address, shared, &events);
        let thread = std::thread::Builder::new().name(format!("floor-{number}"));
        drop(thread.spawn(run).map_err(|error| error.to_string())?);
    }
    let next = || inbox.recv().map_err(|_| "every thread ended".to_owned());
    for _ in 0..threads {
        next()??;
    }
    println!("listening on {address}");
    next()?
}

/// Tells `events` that it listens, and why it ended.
fn run_thread(
    number: usize,
    address: SocketAddr,
    shared: Arc<Shared>,
    events: &Sender<Result<(), String>>,
) {
    let failed = |what: &str, error: std::io::Error| format!("thread {number}: {what}: {error}");
    let begin = || {
        net::own_file_table().map_err(|error| failed("no file table of its own", error))?;
        if !net::pin_to_core(number) {
            return Err(format!("thread {number} cannot be kept on one core"));
        }
        Thread::listen(number, address, shared).map_err(|error| failed("cannot listen", error))
    };
    let ended = begin().and_then(|mut thread| {
        // The receiver lives as long as the process.
        let _ = events.send(Ok(()));
        thread.run().map_err(|error| failed("stopped", error))
    });
    let _ = events.send(ended);
}
