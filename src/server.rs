//! From configuration to serving, and back to nothing: boot order, signals, drain.
//!
//! The order of the boot is what makes file tables of their own safe (see [`crate::net::own_file_table`]):
//! helper threads start first; every shard thread then builds its ring, and the doorbells are open;
//! only when all have theirs do the threads part, and only after that are listeners opened.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::auth::{ApiKeys, JwkSet, Revocations, Scope, TokenSettings, TokenVerifier};
use crate::config::{Config, TokenConfig};
use crate::hub::Entry;
use crate::limits::Plan;
use crate::memory::Memory;
use crate::metrics::ShardMetrics;
use crate::net::{
    HandedOver, build_runtime, core_count, ensure_port_free, own_file_table, pin_to_core,
};
use crate::shard::{
    AddressTable, Backend, Baton, Door, Doorbell, Inheritance, Link, Message, Opening, Piece,
    Ports, Returns, ShardEvent, Shared, Tokens, Turn, connect,
};
use crate::state::{StateDir, Taken};
use crate::{endpoints, hooks, log, shard};

/// io_uring is not to be had (sysexits.h: EX_CONFIG).
const EXIT_NO_RING: u8 = 78;
/// Ended by a second signal (128 + SIGINT).
const EXIT_INTERRUPTED: i32 = 130;
/// How long past its window and the close timeout a drain may take before it is cut short.
const DRAIN_GRACE: Duration = Duration::from_secs(5);
/// How often the memory in use is read.
const MEMORY_SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How long an order which shards take new connections stands at least.
const STEER_INTERVAL: Duration = Duration::from_millis(20);
/// How often control messages without a place are tried again while the server drains.
const LINK_RETRY: Duration = Duration::from_millis(10);
/// How long a port in use is waited for, and how often it is looked at.
const PORT_PATIENCE: Duration = Duration::from_secs(1);
const PORT_RETRY: Duration = Duration::from_millis(50);
/// How often it is said how far the snapshot is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How long a shard may take for a piece of it.
const PIECE_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of publications in one inbox, over all senders.
const INBOX_BYTES: usize = 64 * 1024 * 1024;

/// What the main thread waits for.
enum Event {
    /// A shard's thread has its ring.
    Built,
    /// A shard's thread could not have one.
    Refused(String),
    /// A shard says something.
    Shard(ShardEvent),
    /// SIGTERM or SIGINT came.
    Signal,
}

/// Serves until a signal comes and everything is closed. `collect` makes the allocator give back to the
/// kernel what the calling thread has freed.
pub fn run(config: &Config, plan: &Plan, ready_fd: Option<RawFd>, collect: fn()) -> ExitCode {
    match serve(config, plan, ready_fd, collect) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { text, code }) => {
            // The log may be written late or, when it overflows, not at all; this must be seen.
            eprintln!("longwire: {text}");
            ExitCode::from(code)
        }
    }
}

struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: 1,
        }
    }
}

fn serve(
    config: &Config,
    plan: &Plan,
    ready_fd: Option<RawFd>,
    collect: fn(),
) -> Result<(), Failure> {
    let doors = doors(config)?;
    let (events, inbox) = unbounded();
    watch_signals(events.clone()).map_err(|error| Failure::new(error.to_string()))?;
    let Wiring {
        ports,
        mut links,
        backend,
    } = wire(config, plan.shards)?;
    let shared = Arc::new(share(config, plan, collect, backend, events.clone())?);
    shared.memory.sample();
    let state = open_state(config)?;
    start_shards(&shared, ports, &doors, state.as_ref(), &events, &inbox)?;
    await_serving(&shared, &inbox)?;
    announce(&doors, plan, ready_fd);
    let steering = Steering::of(&doors, &shared);
    await_signal(&shared, &inbox, steering, &mut links)?;
    let closed = drain(&shared, &mut links, &inbox);
    let kept = state.map_or(Ok(()), |state| keep(&state, &mut links, &inbox));
    for link in &mut links {
        link.send_control(Message::Stop);
    }
    info!("stopped");
    closed.and(kept)
}

/// The folder for what outlives a restart, if there is to be one.
fn open_state(config: &Config) -> Result<Option<StateDir>, Failure> {
    if config.state_dir.is_empty() {
        return Ok(None);
    }
    let dir = StateDir::open(&config.state_dir);
    dir.map(Some)
        .map_err(|error| Failure::new(format!("state_dir: {}: {error}", config.state_dir)))
}

/// What each shard takes up of what the last stop left.
fn inheritances(shared: &Shared, state: Option<&StateDir>) -> (Vec<Inheritance>, Taken) {
    let left = state.map(StateDir::read).unwrap_or_default();
    if let (Taken::Damaged, Some(state)) = (left.taken, state) {
        warn!(
            file = %state.file().display(),
            problem = left.damage,
            "what the last stop left is damaged and put aside as .damaged; channels missing in it have new epochs"
        );
    }
    if left.taken != Taken::Nothing {
        let (entries, bytes, away_s) = (left.entries.len(), left.bytes, left.away_s);
        info!(entries, bytes, away_s, "taking up what the last stop left");
    }
    let mut shares: Vec<Inheritance> = shared
        .metrics
        .iter()
        .map(|_| Inheritance {
            entries: Vec::new(),
            away_s: left.away_s,
        })
        .collect();
    for entry in left.entries {
        let channel = match &entry {
            Entry::Channel(state) => &state.name,
            Entry::Key(state) => &state.channel,
            // For every shard.
            Entry::Revocation(_) => {
                for share in &mut shares {
                    share.entries.push(entry.clone());
                }
                continue;
            }
            Entry::Began { .. } => continue,
        };
        shares[usize::from(shared.owner_of(channel))]
            .entries
            .push(entry);
    }
    (shares, left.taken)
}

/// The ways between the threads.
struct Wiring {
    /// By shard.
    ports: Vec<Ports>,
    /// The main thread's.
    links: Vec<Link>,
    backend: Backend,
}

/// Opens the doorbells, and starts the hooks' thread if there is anything to call: it rings them too.
fn wire(config: &Config, shards: usize) -> Result<Wiring, Failure> {
    let doorbells: io::Result<Vec<Arc<Doorbell>>> = (0..shards)
        .map(|_| Doorbell::open().map(Arc::new))
        .collect();
    let doorbells = doorbells.map_err(|error| Failure::new(format!("no doorbell: {error}")))?;
    let (mut backend, settings) = Backend::plan(config);
    let outsiders = if settings.is_empty() { 1 } else { 2 };
    let (ports, mut outside) = connect(&doorbells, outsiders, config.inbox.messages, INBOX_BYTES);
    let links = outside.pop().unwrap_or_default();
    if let Some(links) = outside.pop() {
        let handle = hooks::start(&settings, Returns::new(links));
        backend.started(handle.map_err(|text| Failure { text, code: 2 })?);
    }
    Ok(Wiring {
        ports,
        links,
        backend,
    })
}

fn share(
    config: &Config,
    plan: &Plan,
    collect: fn(),
    backend: Backend,
    events: Sender<Event>,
) -> Result<Shared, Failure> {
    Ok(Shared {
        config: config.clone(),
        connections_per_shard: plan.connections_per_shard,
        metrics: (0..plan.shards)
            .map(|_| Arc::new(ShardMetrics::default()))
            .collect(),
        channel_hash: std::hash::RandomState::new(),
        is_ready: AtomicBool::new(false),
        addresses: AddressTable::default(),
        memory: Memory::new(&config.admission, collect),
        batons: batons(config, plan.shards),
        tokens: tokens(config)?,
        backend,
        node: format!("{:016x}", fastrand::u64(..)).into(),
        api_keys: api_keys(config)?,
        begin_drain: Box::new(move || {
            // The main thread is there as long as the process is.
            let _ = events.send(Event::Signal);
        }),
        handler: endpoints::HANDLER,
        log_lines_dropped: log::dropped_lines,
    })
}

/// Who may use the server API.
fn api_keys(config: &Config) -> Result<ApiKeys, Failure> {
    let mut keys = ApiKeys::default();
    let all_or = |list: &[String]| match list {
        [] => vec!["*".to_owned()],
        list => list.to_vec(),
    };
    let full = config.full_api_keys().map(|key| (key, Scope::all()));
    let scoped = config.http_api_keys.iter().map(|key| {
        let scope = Scope {
            methods: all_or(&key.methods),
            channels: all_or(&key.channels),
        };
        (key.key.as_str(), scope)
    });
    for (key, scope) in full.chain(scoped) {
        keys.add(key, scope).map_err(|error| Failure {
            text: format!("api_keys, http_api.key and http_api.keys: {error}"),
            code: 2,
        })?;
    }
    Ok(keys)
}

/// Revoked tokens and users that are remembered, at most.
const REVOCATIONS_MAX: usize = 100_000;

/// What tokens are verified with.
fn tokens(config: &Config) -> Result<Tokens, Failure> {
    let client = &config.client;
    Ok(Tokens {
        connect: verifier("client.token", &client.token)?,
        subscribe: match client.subscription_token.enabled {
            true => verifier(
                "client.subscription_token",
                &client.subscription_token.token,
            )?,
            false => verifier("client.token", &client.token)?,
        },
        revocations: Revocations::new(REVOCATIONS_MAX),
    })
}

fn verifier(section: &str, config: &TokenConfig) -> Result<TokenVerifier, Failure> {
    let bad = |setting: &str, problem: &str| Failure {
        text: format!("{section}.{setting}: {problem}"),
        code: 2,
    };
    let settings = TokenSettings {
        hmac_secret_key: config.hmac_secret_key.clone(),
        hmac_previous_secret_key: config.hmac_previous_secret_key.clone(),
        hmac_previous_secret_key_valid_until: 0,
        rsa_public_key: config.rsa_public_key.clone(),
        ecdsa_public_key: config.ecdsa_public_key.clone(),
        jwks_public_endpoint: config.jwks_public_endpoint.clone(),
        audience: config.audience.clone(),
        audience_regex: config.audience_regex.as_str().to_owned(),
        issuer: config.issuer.clone(),
        issuer_regex: config.issuer_regex.as_str().to_owned(),
        user_id_claim: config.user_id_claim.clone(),
    };
    let verifier = TokenVerifier::new(&settings);
    let mut verifier = verifier.map_err(|error| bad(error.setting, &error.problem))?;
    if !config.jwks_file.is_empty() {
        let file = |problem: String| bad("jwks_file", &format!("{}: {problem}", config.jwks_file));
        let document = std::fs::read(&config.jwks_file).map_err(|error| file(error.to_string()))?;
        let set = JwkSet::parse(&document).map_err(|error| file(error.to_string()))?;
        verifier.set_jwks(Arc::new(set));
    }
    Ok(verifier)
}

/// One for each core, if shards share them.
fn batons(config: &Config, shards: usize) -> Vec<Baton> {
    let cores = core_count();
    if shards <= cores || !config.fanout.take_turns {
        return Vec::new();
    }
    (0..cores)
        .map(|_| Baton::new(shards.div_ceil(cores)))
        .collect()
}

/// The sockets that were handed over, or else the configured addresses.
fn doors(config: &Config) -> Result<Vec<Door>, Failure> {
    let handed_over =
        HandedOver::from_environment().map_err(|error| Failure::new(error.to_string()))?;
    if handed_over.is_empty() {
        let plain = config.listen.iter().map(|address| (address, false));
        let proxied = config.proxy_protocol_listen.iter();
        let doors = plain.chain(proxied.map(|address| (address, true)));
        return doors
            .map(|(address, is_proxied)| {
                let opening = Opening::Bind(claim_port(address)?);
                Ok(Door {
                    opening,
                    is_proxied,
                })
            })
            .collect();
    }
    let addresses: Vec<SocketAddr> = handed_over.iter().map(|socket| socket.address).collect();
    crate::config::check_addresses(config, &addresses)
        .map_err(|text| Failure::new(format!("LISTEN_FDS: {text}")))?;
    let adopt = |socket: HandedOver| Door {
        opening: Opening::Adopt(socket),
        is_proxied: config.proxy_protocol_listen.contains(&socket.address),
    };
    Ok(handed_over.into_iter().map(adopt).collect())
}

/// Finds out whether a port is free, and which one port 0 stands for.
fn claim_port(address: &SocketAddr) -> Result<SocketAddr, Failure> {
    wait_for_port(address).map_err(|error| {
        let cure = match error.kind() {
            io::ErrorKind::AddrInUse => {
                ": another process listens there; stop it, or choose another port with --listen"
            }
            io::ErrorKind::PermissionDenied => {
                ": ports below 1024 need the capability CAP_NET_BIND_SERVICE"
            }
            io::ErrorKind::AddrNotAvailable => ": this machine has no such address",
            _ => "",
        };
        Failure::new(format!("cannot listen on {address}: {error}{cure}"))
    })
}

/// A port may be in use a moment longer than the process that used it: the kernel takes a killed
/// server's rings, and with them its listeners, apart in the background.
fn wait_for_port(address: &SocketAddr) -> io::Result<SocketAddr> {
    let deadline = Instant::now() + PORT_PATIENCE;
    loop {
        match ensure_port_free(*address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(PORT_RETRY);
            }
            outcome => return outcome,
        }
    }
}

/// Starts the thread that waits for signals.
fn watch_signals(events: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for (count, _) in signals.forever().enumerate() {
                if count > 0 {
                    std::process::exit(EXIT_INTERRUPTED);
                }
                // The main thread is there as long as the process is.
                let _ = events.send(Event::Signal);
            }
        })?;
    Ok(())
}

/// Starts the shards' threads and lets them go on when all have their rings.
fn start_shards(
    shared: &Arc<Shared>,
    ports: Vec<Ports>,
    doors: &[Door],
    state: Option<&StateDir>,
    events: &Sender<Event>,
    inbox: &Receiver<Event>,
) -> Result<(), Failure> {
    let shards = shared.metrics.len();
    let (shares, taken) = inheritances(shared, state);
    let barrier = Arc::new(Barrier::new(shards + 1));
    let (first, mut mine) = bounded(1);
    for (id, (ports, inheritance)) in ports.into_iter().zip(shares).enumerate() {
        let (next, after) = bounded(1);
        let turn = Turn {
            mine: std::mem::replace(&mut mine, after),
            next,
        };
        let start = ShardStart {
            id: id as u16,
            shared: Arc::clone(shared),
            ports,
            doors: doors.to_vec(),
            turn,
            inheritance,
            events: events.clone(),
            barrier: Arc::clone(&barrier),
        };
        thread::Builder::new()
            .name(format!("shard-{id}"))
            .spawn(move || start.run())
            .map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?;
    }
    for _ in 0..shards {
        match inbox.recv() {
            Ok(Event::Refused(text)) => {
                return Err(Failure {
                    text,
                    code: EXIT_NO_RING,
                });
            }
            Ok(Event::Signal) => return Err(Failure::new("interrupted while starting")),
            _ => {}
        }
    }
    barrier.wait();
    if let Some(state) = state {
        // Before anybody can publish.
        state.consume(taken).map_err(|error| {
            let file = state.file();
            Failure::new(format!(
                "cannot remove {} and so must not use it: {error}",
                file.display()
            ))
        })?;
    }
    let _ = first.send(());
    Ok(())
}

/// What a shard's thread begins with.
struct ShardStart {
    id: u16,
    shared: Arc<Shared>,
    ports: Ports,
    doors: Vec<Door>,
    turn: Turn,
    inheritance: Inheritance,
    events: Sender<Event>,
    barrier: Arc<Barrier>,
}

impl ShardStart {
    fn run(self) {
        if !pin_to_core(usize::from(self.id)) {
            warn!(shard = self.id, "the thread could not be pinned to a core");
        }
        let mut runtime = match build_runtime() {
            Ok(runtime) => runtime,
            Err(refused) => return self.report(Event::Refused(refused.to_string())),
        };
        self.report(Event::Built);
        self.barrier.wait();
        if let Err(error) = own_file_table() {
            let cure = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "; most likely a container's seccomp profile forbids unshare: allow unshare(CLONE_FILES) in it"
                }
                _ => "",
            };
            let text = format!("no file table of its own for a shard: {error}{cure}");
            return self.report(Event::Shard(ShardEvent::Failed(text)));
        }
        let events = self.events;
        let report = std::rc::Rc::new(move |event| {
            // The main thread may be gone when the process ends.
            let _ = events.send(Event::Shard(event));
        });
        runtime.block_on(shard::run(
            self.id,
            self.shared,
            self.ports,
            self.doors,
            self.turn,
            self.inheritance,
            report,
        ));
    }

    fn report(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

fn await_serving(shared: &Shared, inbox: &Receiver<Event>) -> Result<(), Failure> {
    let mut serving = 0;
    while serving < shared.metrics.len() {
        match inbox.recv() {
            Ok(Event::Shard(ShardEvent::Serving)) => serving += 1,
            Ok(Event::Shard(ShardEvent::Failed(text))) => return Err(Failure::new(text)),
            Ok(Event::Signal) => return Err(Failure::new("interrupted while starting")),
            Ok(_) => {}
            Err(_) => return Err(Failure::new("every shard ended")),
        }
    }
    shared.is_ready.store(true, Ordering::Relaxed);
    Ok(())
}

/// Says where the server is: for people, and for scripts that wait for it.
fn announce(doors: &[Door], plan: &Plan, ready_fd: Option<RawFd>) {
    let addresses: Vec<SocketAddr> = doors.iter().map(Door::address).collect();
    let mut text = format!(
        "longwire {}: {}, up to {} connections\n",
        env!("CARGO_PKG_VERSION"),
        match plan.shards {
            1 => "1 shard".to_owned(),
            shards => format!("{shards} shards"),
        },
        plan.max_connections,
    );
    for door in doors {
        let protocol = if door.is_proxied {
            " for the PROXY protocol"
        } else {
            ""
        };
        text += &format!("listening on {}{protocol}\n", door.address());
    }
    if let Some(door) = doors.iter().find(|door| !door.is_proxied) {
        let address = reachable(door.address());
        text += &format!("open     http://{address}/\n");
        text +=
            &format!("publish  curl -d '{{\"hello\":\"world\"}}' http://{address}/channels/demo\n");
    }
    // Nobody has to listen to it.
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
    if let Some(fd) = ready_fd
        && let Err(error) = std::fs::write(format!("/dev/fd/{fd}"), "ready\n")
    {
        warn!(fd, %error, "could not report readiness on the descriptor of --ready-fd");
    }
    info!(?addresses, shards = plan.shards, "serving");
}

/// Where a person on this machine finds a server that listens on `address`.
fn reachable(address: SocketAddr) -> String {
    match address.ip().is_unspecified() {
        true => format!("localhost:{}", address.port()),
        false => address.to_string(),
    }
}

/// Waits for a signal. Meanwhile it samples the memory, since this thread may wait for the kernel, and
/// steers new connections.
fn await_signal(
    shared: &Shared,
    inbox: &Receiver<Event>,
    mut steering: Option<Steering>,
    links: &mut [Link],
) -> Result<(), Failure> {
    let mut next_sample = Instant::now();
    let mut next_look = Instant::now();
    let mut is_filling = true;
    loop {
        let now = Instant::now();
        if now >= next_sample {
            next_sample = now + MEMORY_SAMPLE_INTERVAL;
            shared.memory.sample();
            // Shards that are full do not say so twice.
            is_filling = true;
        }
        if is_filling && now >= next_look {
            next_look = now + STEER_INTERVAL;
            is_filling = false;
            if let Some(steering) = &mut steering {
                steering.steer(shared, links);
            }
        }
        flush(links);
        let deadline = if is_filling { next_look } else { next_sample };
        match inbox.recv_deadline(deadline) {
            Ok(Event::Signal) => return Ok(()),
            Ok(Event::Shard(ShardEvent::Failed(text))) => return Err(Failure::new(text)),
            Ok(Event::Shard(ShardEvent::Filling)) => is_filling = true,
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::new("every shard ended")),
        }
    }
}

/// Sends what had no place in a shard's inbox.
fn flush(links: &mut [Link]) {
    for link in links {
        link.flush();
    }
}

/// Which shards take new connections, where there are more shards than cores: on each core the one
/// with the most room. A thread that takes many at a time is woken less often than many threads that
/// take one each, and no shard is full while another is not.
struct Steering {
    cores: usize,
    /// Those that do now.
    takers: Vec<u16>,
}

impl Steering {
    /// `None` where connections are better left to the kernel: with a shard for each core at most, or
    /// sockets that somebody else opened.
    fn of(doors: &[Door], shared: &Shared) -> Option<Self> {
        let cores = core_count();
        let is_ours = |door: &Door| matches!(door.opening, Opening::Bind(_));
        let is_needed = shared.metrics.len() > cores && doors.iter().all(is_ours);
        is_needed.then(|| Self {
            cores,
            takers: Vec::new(),
        })
    }

    fn steer(&mut self, shared: &Shared, links: &mut [Link]) {
        let connections = |metrics: &Arc<ShardMetrics>| metrics.connections.get();
        let connections: Vec<u64> = shared.metrics.iter().map(connections).collect();
        let most = shared.connections_per_shard as u64;
        let takers = takers(&connections, self.cores, most);
        if takers == self.takers {
            return;
        }
        self.takers.clone_from(&takers);
        // Any shard can tell the kernel for all. Always the same: orders must not overtake each other.
        links[0].send_control(Message::Steer(takers.into()));
    }
}

/// The shard of each core that has the fewest connections, as long as there is ample room: what comes
/// until the next order must fit. After that all shards that have any of the `most`; unless none has.
fn takers(connections: &[u64], cores: usize, most: u64) -> Vec<u16> {
    let of_core = |core: usize| (core..connections.len()).step_by(cores.max(1));
    let emptiest = |core| of_core(core).min_by_key(|id| connections[*id]);
    let ample = |id: &usize| connections[*id] + most / 16 < most;
    let mut takers: Vec<usize> = (0..cores).filter_map(emptiest).filter(ample).collect();
    if takers.is_empty() {
        takers = (0..connections.len()).collect();
        if connections.iter().any(|count| *count < most) {
            takers.retain(|id| connections[*id] < most);
        }
    }
    takers.into_iter().map(|id| id as u16).collect()
}

/// Unready, no new connections, every session closed, and only when all shards are done the end: a
/// shard without sessions still answers the publishers of others.
fn drain(shared: &Shared, links: &mut [Link], inbox: &Receiver<Event>) -> Result<(), Failure> {
    let millis = |ms: u32| Duration::from_millis(u64::from(ms));
    let window = millis(shared.config.drain.window_ms);
    let deadline =
        Instant::now() + window + millis(shared.config.websocket.close_timeout_ms) + DRAIN_GRACE;
    shared.is_ready.store(false, Ordering::Relaxed);
    info!(?window, "stopping; a second signal stops at once");
    for link in links.iter_mut() {
        link.send_control(Message::Drain(window));
    }
    let mut drained = 0;
    while drained < links.len() {
        flush(links);
        match inbox.recv_timeout(LINK_RETRY) {
            Ok(Event::Shard(ShardEvent::Drained)) => drained += 1,
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                error!("not all connections closed in time");
                return Err(Failure::new("not all connections closed in time"));
            }
        }
    }
    Ok(())
}

/// Writes what outlives a restart, a piece of a shard at a time. A shard's inbox is in order and nobody
/// publishes any more, so whatever it was sent before, it has sequenced by then.
fn keep(state: &StateDir, links: &mut [Link], inbox: &Receiver<Event>) -> Result<(), Failure> {
    let failed = |problem: &dyn Display| {
        let file = state.file();
        error!(file = %file.display(), %problem, "channels are not kept over the restart");
        Failure::new(format!(
            "channels are not kept over the restart: {}: {problem}",
            file.display()
        ))
    };
    let mut writer = state.create().map_err(|error| failed(&error))?;
    let mut kept = Kept::default();
    for link in links.iter_mut() {
        let mut next = Some(0);
        while let Some(first) = next {
            link.send_control(Message::Export(first));
            let piece =
                await_piece(link, inbox).ok_or_else(|| failed(&"a shard does not answer"))?;
            next = piece.next;
            writer
                .append(&piece.bytes)
                .map_err(|error| failed(&error))?;
            kept.count(&piece);
        }
    }
    let bytes = writer.bytes();
    writer.finish().map_err(|error| failed(&error))?;
    let Kept {
        channels, left_out, ..
    } = kept;
    info!(
        channels,
        bytes, left_out, "channels are kept for the next start"
    );
    Ok(())
}

/// How far the snapshot is.
struct Kept {
    channels: usize,
    bytes: usize,
    left_out: usize,
    told: Instant,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            channels: 0,
            bytes: 0,
            left_out: 0,
            told: Instant::now(),
        }
    }
}

impl Kept {
    /// Counts a piece, and says how far it is now and then.
    fn count(&mut self, piece: &Piece) {
        self.channels += piece.channels;
        self.bytes += piece.bytes.len();
        self.left_out += piece.left_out;
        if self.told.elapsed() >= PROGRESS_INTERVAL {
            self.told = Instant::now();
            let (channels, bytes) = (self.channels, self.bytes);
            info!(channels, bytes, "keeping channels for the next start");
        }
    }
}

fn await_piece(link: &mut Link, inbox: &Receiver<Event>) -> Option<Piece> {
    let deadline = Instant::now() + PIECE_PATIENCE;
    loop {
        link.flush();
        match inbox.recv_timeout(LINK_RETRY) {
            Ok(Event::Shard(ShardEvent::Exported(piece))) => return Some(piece),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_connections_go_to_the_emptiest_shard_of_each_core() {
        assert_eq!(takers(&[5, 0, 3, 7, 4], 2, 100), [2, 1]);
        assert_eq!(takers(&[0, 0, 0, 0], 2, 100), [0, 1]);
        assert_eq!(takers(&[9, 1], 2, 100), [0, 1]);
    }

    #[test]
    fn a_core_without_ample_room_takes_none_while_another_has_it() {
        assert_eq!(takers(&[99, 40, 100, 100], 2, 100), [1]);
    }

    #[test]
    fn the_last_room_is_shared_by_all_that_have_some() {
        assert_eq!(takers(&[99, 98, 100, 97], 2, 100), [0, 1, 3]);
        assert_eq!(takers(&[100, 100, 100, 100], 2, 100), [0, 1, 2, 3]);
    }
}
