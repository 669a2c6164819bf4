//! Everything of a shard that waits: its tasks. Each waits for one thing, then enters the core.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use monoio::time::sleep;
use tracing::warn;

use crate::hub::Entry;
use crate::metrics::RefusalReason;
use crate::net::{Accepted, GiveWay, HandedOver, Listener, Pollable, Rings, TcpOptions};

use super::inbox::{Inbox, Message};
use super::local_bell::LocalBell;
use super::{Core, Piece, Ports, Shard, Shared};

/// Where bytes of every session land first. A read that fills it is followed by another.
const SCRATCH_BYTES: usize = 64 * 1024;
/// Connections taken from one listener in a row.
const ACCEPTS_PER_TURN: usize = 64;
/// Ready sockets served in a row.
const SOCKETS_PER_TURN: usize = 256;
/// How long the sockets rest when the runtime cannot wait for them.
const SOCKETS_REST: Duration = Duration::from_millis(10);
/// How long accept rests when there are no descriptors, or no room even to refuse.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Messages of other shards handled in a row.
const MESSAGES_PER_TURN: usize = 256;
/// How soon control messages without a place try again.
const LINK_RETRY: Duration = Duration::from_millis(1);
/// Expired deadlines handled in a row.
const EXPIRIES_PER_TURN: usize = 256;
/// Connections whose age is looked at in a row.
const AGES_PER_TURN: usize = 1024;
/// How often the length of a turn is sampled.
const TURN_SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// Steps in which sessions are closed while draining.
const DRAIN_STEP: Duration = Duration::from_millis(100);
/// How long before the end of the drain window the last sessions are closed.
const DRAIN_MARGIN: Duration = Duration::from_secs(2);
/// Sessions closed per step, at least: a few connections need no spreading.
const DRAIN_STEP_SESSIONS: usize = 10;

/// What a shard tells the main thread.
#[derive(Debug)]
pub enum ShardEvent {
    /// It serves.
    Serving,
    /// It could not begin to serve.
    Failed(String),
    /// Room for connections has become less, by half: others may have more.
    Filling,
    /// Its last session is closed.
    Drained,
    /// A piece of what outlives a restart.
    Exported(Piece),
}

/// What a shard takes up of a server that stopped.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// Of channels it owns.
    pub entries: Vec<Entry>,
    /// How long ago they were given, in seconds.
    pub away_s: u32,
}

/// How a shard reaches the main thread.
pub type Reporter = Rc<dyn Fn(ShardEvent)>;

/// When a shard may open its doors: after the one before it, so that sockets which share a port are
/// numbered as shards are.
#[derive(Debug)]
pub struct Turn {
    /// The shard before has opened its own.
    pub mine: Receiver<()>,
    /// Lets the next one.
    pub next: Sender<()>,
}

/// Runs a shard in the calling thread's runtime until it is told to stop. Its thread has a file table
/// of its own by now. `turn` is waited for without serving anything.
pub async fn run(
    id: u16,
    shared: Arc<Shared>,
    ports: Ports,
    doors: Vec<Door>,
    turn: Turn,
    inheritance: Inheritance,
    events: Reporter,
) {
    let tcp = tcp_options(&shared);
    let rings = match Rings::new() {
        Ok(rings) => rings,
        Err(refused) => return events(ShardEvent::Failed(refused.to_string())),
    };
    let ready = rings.watch.bell();
    let (shard, ready) = match (start(Core::new(id, shared, ports.links, rings)), ready) {
        (Ok(shard), Ok(ready)) => (shard, ready),
        (Err(error), _) | (_, Err(error)) => return events(ShardEvent::Failed(error.to_string())),
    };
    shard.enter(|core| core.import(inheritance.entries, inheritance.away_s));
    // Nobody lets it only if the shard before has failed, which ends them all.
    let _ = turn.mine.recv();
    let mut listeners = Vec::new();
    for door in &doors {
        match door.open(&tcp) {
            Ok(listener) => listeners.push(Rc::new(listener)),
            Err(error) => {
                let address = door.address();
                let text = format!("cannot listen on {address}: {error}");
                return events(ShardEvent::Failed(text));
            }
        }
    }
    // The last one has nobody to let.
    let _ = turn.next.send(());
    for (listener, door) in listeners.iter().zip(&doors) {
        let events = Rc::clone(&events);
        monoio::spawn(accept(shard, Rc::clone(listener), door.is_proxied, events));
    }
    monoio::spawn(serve_sockets(shard, ready));
    monoio::spawn(inbox(shard, ports.inbox, listeners, Rc::clone(&events)));
    monoio::spawn(flush_links(shard));
    monoio::spawn(fan_out(shard));
    monoio::spawn(timers(shard));
    monoio::spawn(sample_turns(shard));
    events(ShardEvent::Serving);
    shard.stop_bell.wait().await;
}

/// Where connections come in.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// How it is opened.
    pub opening: Opening,
    /// Every connection begins with a PROXY protocol header.
    pub is_proxied: bool,
}

/// How a shard comes by a listening socket.
#[derive(Clone, Copy, Debug)]
pub enum Opening {
    /// An address every shard listens on for itself.
    Bind(SocketAddr),
    /// A socket that was handed over, which all shards share.
    Adopt(HandedOver),
}

impl Door {
    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        match self.opening {
            Opening::Bind(address) => address,
            Opening::Adopt(socket) => socket.address,
        }
    }

    fn open(&self, options: &TcpOptions) -> io::Result<Listener> {
        match self.opening {
            Opening::Bind(address) => Listener::bind(address, options),
            Opening::Adopt(socket) => Listener::adopt(socket, options),
        }
    }
}

/// A shard lives as long as its thread, and its tasks refer to it: it is never freed.
fn start(core: Core) -> io::Result<&'static Shard> {
    Ok(Box::leak(Box::new(Shard {
        core: core.into(),
        fanout_bell: LocalBell::default(),
        links_bell: LocalBell::default(),
        stop_bell: LocalBell::default(),
        give_way: GiveWay::new()?,
    })))
}

fn tcp_options(shared: &Shared) -> TcpOptions {
    let tcp = &shared.config.tcp;
    let millis = |ms: u32| Duration::from_millis(u64::from(ms));
    TcpOptions {
        backlog: tcp.backlog,
        user_timeout: millis(tcp.user_timeout_ms),
        keepalive_idle: millis(tcp.keepalive_idle_ms),
        keepalive_interval: millis(tcp.keepalive_interval_ms),
        keepalive_count: tcp.keepalive_count,
        notsent_lowat_bytes: tcp.notsent_lowat_bytes,
        congestion_control: Some(tcp.congestion_control.clone()).filter(|name| !name.is_empty()),
    }
}

/// Takes new connections until the listener is stopped.
async fn accept(shard: &'static Shard, listener: Rc<Listener>, proxied: bool, events: Reporter) {
    loop {
        if listener.readable().await.is_err() {
            sleep(ACCEPT_REST).await;
        }
        if shard.enter(|core| core.is_draining()) {
            return;
        }
        let backlog = shard.enter(|core| accept_some(core, &listener, proxied));
        if shard.enter(Core::is_filling) {
            events(ShardEvent::Filling);
        }
        match backlog {
            Backlog::Taken => {}
            Backlog::Left => sleep(ACCEPT_REST).await,
        }
    }
}

/// What became of the connections that were ready.
enum Backlog {
    /// They were taken, or a turn's worth of them.
    Taken,
    /// They cannot be taken now. They stay ready: to try again at once would spin.
    Left,
}

/// Takes a turn's worth of connections.
fn accept_some(core: &mut Core, listener: &Listener, proxied: bool) -> Backlog {
    for _ in 0..ACCEPTS_PER_TURN {
        if !core.may_accept() {
            // The kernel holds whoever comes until there is room, or room to refuse.
            return Backlog::Left;
        }
        match listener.try_accept() {
            Ok(Accepted { socket, peer }) => {
                core.accept(socket, peer, proxied);
            }
            Err(error) if is_out_of_descriptors(&error) => {
                core.refuse_connection(RefusalReason::Descriptors, None);
                return Backlog::Left;
            }
            // None left, the client was gone before it was accepted, or the listener was stopped.
            Err(_) => return Backlog::Taken,
        }
    }
    Backlog::Taken
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// Serves the sockets of all sessions as they get ready.
async fn serve_sockets(shard: &'static Shard, ready: Pollable) {
    let mut scratch = vec![0; SCRATCH_BYTES];
    loop {
        if ready.readable().await.is_err() {
            // The runtime's ring is out of memory for a moment.
            sleep(SOCKETS_REST).await;
        }
        while shard.enter(|core| core.serve_sockets(&mut scratch, SOCKETS_PER_TURN)) {
            shard.give_way.turn().await;
        }
    }
}

/// Handles messages of other shards.
async fn inbox(
    shard: &'static Shard,
    inbox: Inbox,
    listeners: Vec<Rc<Listener>>,
    events: Reporter,
) {
    let waiter = match inbox.waiter() {
        Ok(waiter) => waiter,
        Err(error) => return events(ShardEvent::Failed(error.to_string())),
    };
    loop {
        waiter.wait(|| !inbox.is_empty()).await;
        while shard.enter(|core| handle(core, &inbox, shard, &listeners, &events)) {
            shard.give_way.turn().await;
        }
    }
}

/// Handles one turn's messages. True if there may be more.
fn handle(
    core: &mut Core,
    inbox: &Inbox,
    shard: &'static Shard,
    listeners: &[Rc<Listener>],
    events: &Reporter,
) -> bool {
    for _ in 0..MESSAGES_PER_TURN {
        let Some((from, message)) = inbox.pop() else {
            return false;
        };
        core.metrics.inbox_messages.add(1);
        match message {
            Message::Drain(window) => {
                core.begin_drain();
                listeners.iter().for_each(|listener| listener.stop());
                monoio::spawn(drain(shard, window, Rc::clone(events)));
            }
            Message::Export(first) => events(ShardEvent::Exported(core.export(first))),
            Message::Steer(takers) => steer(listeners, &takers),
            Message::Stop => shard.stop_bell.ring(),
            message => core.handle(from, message),
        }
    }
    true
}

fn steer(listeners: &[Rc<Listener>], takers: &[u16]) {
    for listener in listeners {
        if let Err(error) = listener.steer(takers) {
            // Connections are spread over all shards then, as they were before.
            warn!(%error, "new connections cannot be steered to shards with room");
        }
    }
}

/// Sends control messages that had no place when they came up, whichever task they came from.
async fn flush_links(shard: &'static Shard) {
    loop {
        shard.links_bell.wait().await;
        while shard.enter(Core::flush_links) {
            sleep(LINK_RETRY).await;
        }
    }
}

/// Closes every session within `window`, then says so. The last ones begin a little before its end:
/// the close timeout of those that do not answer is a wheel's slot or two longer than it says.
async fn drain(shard: &'static Shard, window: Duration, events: Reporter) {
    let spread = window.saturating_sub(DRAIN_MARGIN).max(window / 2);
    let sessions = shard.enter(|core| core.session_count());
    let (began, mut asked) = (Instant::now(), 0);
    while shard.enter(|core| core.session_count() > 0) {
        let elapsed = began.elapsed();
        let due = match elapsed < spread {
            true => (sessions as f64 * elapsed.div_duration_f64(spread)) as usize,
            false => usize::MAX,
        };
        let count = due.saturating_sub(asked).max(DRAIN_STEP_SESSIONS);
        shard.enter(|core| core.close_some(count, elapsed >= window));
        asked = asked.saturating_add(count);
        sleep(DRAIN_STEP).await;
    }
    events(ShardEvent::Drained);
}

/// Makes passes whenever something was published. Every slice ends with a turn of the ring.
async fn fan_out(shard: &'static Shard) {
    let window_ms = shard.enter(|core| core.shared.config.fanout.window_ms);
    let window = Duration::from_millis(u64::from(window_ms));
    loop {
        shard.fanout_bell.wait().await;
        // Whose turn it is has waited already, and others wait for it.
        if !window.is_zero() && !shard.enter(|core| core.is_turn()) {
            sleep(window).await;
        }
        while shard.enter(Core::fan_out) {
            shard.give_way.turn().await;
        }
    }
}

/// Turns the wheel once a second.
async fn timers(shard: &'static Shard) {
    loop {
        let until_next = shard.enter(|core| core.clock.until_next_second());
        sleep(until_next).await;
        while shard.enter(|core| core.expire(EXPIRIES_PER_TURN)) {
            shard.give_way.turn().await;
        }
        while shard.enter(|core| core.end_aged(AGES_PER_TURN)) {
            shard.give_way.turn().await;
        }
        shard.enter(Core::tidy);
    }
}

/// Measures how long the loop takes to come round.
async fn sample_turns(shard: &'static Shard) {
    loop {
        sleep(TURN_SAMPLE_INTERVAL).await;
        let began = Instant::now();
        shard.give_way.turn().await;
        shard.enter(|core| core.metrics.turn.observe(began.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::net::build_runtime;
    use crate::shard::burst::Cargo;
    use crate::shard::testing::Bed;

    #[test]
    fn what_was_planned_is_sent_when_the_core_is_left() {
        build_runtime().unwrap().block_on(async {
            let mut bed = Bed::new(1, Config::default());
            let clients: Vec<_> = (0..3).map(|_| bed.websocket(0, "/channels/a")).collect();
            let shard = start(bed.cores.remove(0)).unwrap();
            shard.enter(|core| {
                for client in &clients {
                    core.plan_send(client.key, (&b"\x81\x01x"[..]).into(), Cargo::Other);
                }
            });
            for mut client in clients {
                assert_eq!(client.message(), b"x");
            }
        });
    }

    #[test]
    fn control_messages_without_a_place_go_out_when_there_is_one() {
        const MESSAGES: usize = 20;
        let mut config = Config::default();
        config.inbox.messages = 16;
        build_runtime().unwrap().block_on(async {
            let mut bed = Bed::new(2, config);
            let shard = start(bed.cores.remove(0)).unwrap();
            monoio::spawn(flush_links(shard));
            for _ in 0..MESSAGES {
                shard.enter(|core| core.tell(1, Message::Stop));
            }
            // Nobody says anything to the shard that has something to say.
            let all = async {
                let mut handled = 0;
                while handled < MESSAGES {
                    sleep(LINK_RETRY).await;
                    handled += std::iter::from_fn(|| bed.inboxes[1].pop()).count();
                }
            };
            let patience = Duration::from_secs(10);
            assert!(monoio::time::timeout(patience, all).await.is_ok());
        });
    }
}
