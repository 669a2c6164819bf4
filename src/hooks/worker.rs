//! The hooks' thread: takes calls from the queue, makes them, and brings their outcomes.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::backend::Backend;
use super::bell::{self, Bell, BellWaiter};
use super::breaker::{Breaker, BreakerState, Permit};
use super::call::{Busy, CallId, Completion, HookCall, HookOutcome, KeySource, Keys, Unavailable};
use super::clock::now_ms;
use super::connection::{Connection, Dialer, Reply};
use super::keys::{FETCH_TIMEOUT, MIN_FETCH_INTERVAL_MS, Source};
use super::metrics::HooksMetrics;
use super::refresh::{Asked, Refresh, RefreshTimes};
use super::settings::HooksSettings;
use super::target::Endpoint;
use super::tls;
use super::url::{Origin, Url};
use crate::net::own_file_table;

/// How often idle connections and documents of keys are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How soon is tried again what a shard's inbox had no room for.
const FLUSH_INTERVAL: Duration = Duration::from_millis(5);
/// How long a connection may take to be ready for its next call. One that takes longer is closed.
const READY_TIMEOUT: Duration = Duration::from_secs(1);
/// Calls taken from the queue before sockets are looked at again.
const CALLS_PER_TURN: usize = 128;

/// The way to the hooks' thread, for every thread that needs it.
#[derive(Clone, Debug)]
pub struct HooksHandle {
    queue: Sender<Order>,
    bell: Bell,
    metrics: Arc<HooksMetrics>,
}

#[derive(Debug)]
enum Order {
    Call { call: HookCall, submitted_ms: u64 },
    RefreshKeys { shard: u16, source: KeySource },
}

impl HooksHandle {
    /// Asks for a call. Never blocks: with too many on their way it is refused, and has no outcome.
    pub fn submit(&self, call: HookCall) -> Result<(), Busy> {
        let submitted_ms = now_ms();
        self.push(Order::Call { call, submitted_ms })
    }

    /// Asks for a younger document of keys, for a token that names a key the present one lacks. The shard hears of
    /// it through [`Completion::keys`], once per document however often it asks meanwhile: that there is a new one,
    /// that there is none, or that it could not be fetched.
    pub fn refresh_keys(&self, shard: u16, source: KeySource) -> Result<(), Busy> {
        self.push(Order::RefreshKeys { shard, source })
    }

    /// What was counted so far.
    pub fn metrics(&self) -> &HooksMetrics {
        &self.metrics
    }

    fn push(&self, order: Order) -> Result<(), Busy> {
        let outcome = self.queue.try_send(order);
        if outcome.is_err() {
            self.metrics.refused_at_queue();
        }
        self.bell.ring();
        outcome.map_err(|_| Busy)
    }
}

/// Starts the hooks' thread, which lives as long as the process. Must be called before the shards have file tables of
/// their own, since what wakes it must have one number in all of them; and while nothing else is opened, since its
/// own table holds a copy of everything open now. The error names the setting, its value and the cure.
pub fn start(settings: &HooksSettings, completion: impl Completion) -> Result<HooksHandle, String> {
    settings.check()?;
    let (bell, reader) = bell::open().map_err(|error| format!("no bell for the hooks: {error}"))?;
    let (queue, orders) = bounded(settings.queue_calls);
    let (report, outcome) = mpsc::sync_channel(1);
    let start = Start {
        settings: settings.clone(),
        bell: bell.clone(),
        reader,
        orders,
        completion,
    };
    thread::Builder::new()
        .name("hooks".to_owned())
        .spawn(move || start.run(&report))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let metrics = outcome.recv();
    let metrics = metrics.map_err(|_| "the hooks' thread ended".to_owned())??;
    Ok(HooksHandle {
        queue,
        bell,
        metrics,
    })
}

/// What the thread begins with.
struct Start<C> {
    settings: HooksSettings,
    bell: Bell,
    reader: OwnedFd,
    orders: Receiver<Order>,
    completion: C,
}

type Report = mpsc::SyncSender<Result<Arc<HooksMetrics>, String>>;

impl<C: Completion> Start<C> {
    fn run(self, report: &Report) {
        // A table of its own: a shard's table, made a moment later, would hold a copy of every connection open then,
        // which no close of this thread could end.
        if let Err(error) = own_file_table() {
            return tell(report, Err(format!("no file table for the hooks: {error}")));
        }
        // Names are looked up in threads: as many as there are hosts, so that none waits for another's.
        let hosts = (self.settings.targets.len() + self.settings.key_sources.len()).max(1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(hosts)
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return tell(report, Err(format!("no runtime for the hooks: {error}"))),
        };
        LocalSet::new().block_on(&runtime, self.serve(report));
    }

    async fn serve(self, report: &Report) {
        let bell = BellWaiter::new(self.bell, self.reader);
        let bell = bell.map_err(|error| format!("no bell for the hooks: {error}"));
        let built =
            bell.and_then(|bell| Ok((bell, Worker::build(&self.settings, self.completion)?)));
        let (bell, (worker, metrics)) = match built {
            Ok(built) => built,
            Err(text) => return tell(report, Err(text)),
        };
        tell(report, Ok(metrics));
        let worker = Rc::new(worker);
        spawn_local(Rc::clone(&worker).sweep_for_ever());
        worker.take_orders(&bell, &self.orders).await;
    }
}

fn tell(report: &Report, outcome: Result<Arc<HooksMetrics>, String>) {
    // Who started the thread waits for it.
    let _ = report.send(outcome);
}

/// What the hooks' thread knows.
struct Worker<C> {
    endpoints: Vec<Endpoint>,
    /// One for each scheme, host and port.
    backends: Vec<Rc<Backend>>,
    sources: Vec<Source>,
    max_response_bytes: usize,
    completion: RefCell<C>,
    is_flushing: Cell<bool>,
    /// Begins every idempotency key, so that those of another run differ.
    run: u64,
    calls: Cell<u64>,
}

impl<C: Completion> Worker<C> {
    fn build(settings: &HooksSettings, completion: C) -> Result<(Self, Arc<HooksMetrics>), String> {
        let mut parts = Parts::new(settings)?;
        for target in &settings.targets {
            parts.add_target(target)?;
        }
        for source in &settings.key_sources {
            parts.add_source(source)?;
        }
        let worker = Self {
            endpoints: parts.endpoints,
            backends: parts
                .backends
                .into_iter()
                .map(|(_, backend)| backend)
                .collect(),
            sources: parts.sources,
            max_response_bytes: settings.max_response_bytes,
            completion: RefCell::new(completion),
            is_flushing: Cell::new(false),
            run: fastrand::u64(..),
            calls: Cell::new(0),
        };
        Ok((worker, Arc::new(parts.metrics)))
    }

    async fn take_orders(self: &Rc<Self>, bell: &BellWaiter, orders: &Receiver<Order>) {
        loop {
            bell.wait().await;
            while self.take_some(orders) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// True if there may be more.
    fn take_some(self: &Rc<Self>, orders: &Receiver<Order>) -> bool {
        let some = orders.try_iter().take(CALLS_PER_TURN);
        let taken = some.map(|order| self.obey(order)).count();
        taken == CALLS_PER_TURN
    }

    fn obey(self: &Rc<Self>, order: Order) {
        match order {
            Order::Call { call, submitted_ms } => self.begin(call, submitted_ms),
            Order::RefreshKeys { shard, source } => self.ask_for_keys(shard, source),
        }
    }

    /// Answers a call at once if the backend is not to be asked, and else makes it in a task of its own.
    fn begin(self: &Rc<Self>, call: HookCall, submitted_ms: u64) {
        let Some(endpoint) = self.endpoints.get(usize::from(call.target.0)) else {
            return self.complete(call.id, HookOutcome::Unavailable(Unavailable::NoTarget));
        };
        let now_ms = now_ms();
        let timeout_ms = u64::from(endpoint.timeout_ms.min(call.deadline_ms));
        let left_ms = (submitted_ms + timeout_ms).saturating_sub(now_ms);
        let outcome = match left_ms {
            0 => HookOutcome::TimedOut,
            _ => match endpoint.admit(now_ms) {
                Some(permit) => {
                    let left = Duration::from_millis(left_ms);
                    let worker = Rc::clone(self);
                    spawn_local(worker.make(call, permit, submitted_ms, left));
                    return;
                }
                None => HookOutcome::Open,
            },
        };
        endpoint
            .metrics
            .ended(&outcome, now_ms.saturating_sub(submitted_ms));
        self.complete(call.id, outcome);
    }

    async fn make(
        self: Rc<Self>,
        call: HookCall,
        permit: Permit,
        submitted_ms: u64,
        left: Duration,
    ) {
        let Some(endpoint) = self.endpoints.get(usize::from(call.target.0)) else {
            return;
        };
        let id = call.id;
        let (outcome, connection) = match timeout(left, self.exchange(endpoint, call)).await {
            Ok(Ok((reply, connection))) => (reply.into(), Some(connection)),
            Ok(Err(reason)) => (HookOutcome::Unavailable(reason), None),
            Err(_) => (HookOutcome::TimedOut, None),
        };
        endpoint.ended(&outcome, permit, submitted_ms);
        // Before the outcome is out: the caller's next call finds the connection there.
        let busy = connection.and_then(|connection| endpoint.give_back_if_ready(connection));
        self.complete(id, outcome);
        if let Some(connection) = busy {
            endpoint.give_back(connection).await;
        }
    }

    /// One exchange, or a second one if the first met a connection that the backend had closed.
    async fn exchange(
        &self,
        endpoint: &Endpoint,
        call: HookCall,
    ) -> Result<(Reply, Connection), Unavailable> {
        let key = self.next_idempotency_key();
        let body = Bytes::from(call.body);
        let mut is_retry = false;
        loop {
            let mut connection = endpoint.backend.borrow().await?;
            let request = endpoint.request(&call.headers, &key, body.clone());
            match connection.exchange(request, self.max_response_bytes).await {
                Ok(reply) => return Ok((reply, connection)),
                Err(fault) if fault.is_stale && !is_retry => {
                    is_retry = true;
                    drop(connection);
                    endpoint.backend.purge();
                    endpoint.metrics.retries.add(1);
                }
                Err(fault) => return Err(fault.reason),
            }
        }
    }

    fn next_idempotency_key(&self) -> String {
        let call = self.calls.get();
        self.calls.set(call + 1);
        format!("{:016x}-{call}", self.run)
    }

    fn ask_for_keys(self: &Rc<Self>, shard: u16, source: KeySource) {
        let index = usize::from(source.0);
        let Some(keys) = self.sources.get(index) else {
            return self.tell_keys(Some(shard), source, Keys::Failed);
        };
        let asked = keys.refresh.borrow_mut().ask(now_ms());
        if asked == Asked::TooSoon {
            let known = keys.document.borrow().is_some();
            let answer = if known { Keys::Unchanged } else { Keys::Failed };
            return self.tell_keys(Some(shard), source, answer);
        }
        keys.asking.borrow_mut().insert(shard);
        if asked == Asked::Fetch {
            spawn_local(Rc::clone(self).fetch(source));
        }
    }

    async fn fetch(self: Rc<Self>, source: KeySource) {
        let Some(keys) = self.sources.get(usize::from(source.0)) else {
            return;
        };
        let fetched = keys.fetch().await;
        keys.ended(&fetched);
        let asking = keys.asking.take();
        match keys.keep(fetched) {
            (news, true) => self.tell_keys(None, source, news),
            (news, false) => {
                for shard in asking {
                    self.tell_keys(Some(shard), source, news.clone());
                }
            }
        }
    }

    async fn sweep_for_ever(self: Rc<Self>) {
        loop {
            self.backends.iter().for_each(|backend| backend.sweep());
            for (index, keys) in self.sources.iter().enumerate() {
                let is_due = keys.refresh.borrow_mut().poll(now_ms());
                if is_due {
                    spawn_local(Rc::clone(&self).fetch(KeySource(index as u16)));
                }
            }
            sleep(SWEEP_INTERVAL).await;
        }
    }

    fn complete(self: &Rc<Self>, id: CallId, outcome: HookOutcome) {
        self.completion.borrow_mut().complete(id, outcome);
        self.flush();
    }

    fn tell_keys(self: &Rc<Self>, shard: Option<u16>, source: KeySource, keys: Keys) {
        self.completion.borrow_mut().keys(shard, source, keys);
        self.flush();
    }

    /// Goes on trying until everything has been brought.
    fn flush(self: &Rc<Self>) {
        if self.is_flushing.get() || !self.completion.borrow_mut().flush() {
            return;
        }
        self.is_flushing.set(true);
        let worker = Rc::clone(self);
        spawn_local(async move {
            loop {
                sleep(FLUSH_INTERVAL).await;
                if !worker.completion.borrow_mut().flush() {
                    break;
                }
            }
            worker.is_flushing.set(false);
        });
    }
}

impl Endpoint {
    fn admit(&self, now_ms: u64) -> Option<Permit> {
        let mut breaker = self.breaker.borrow_mut();
        let permit = breaker.admit(now_ms);
        self.metrics.show_breaker(breaker.state());
        permit
    }

    fn ended(&self, outcome: &HookOutcome, permit: Permit, submitted_ms: u64) {
        let now_ms = now_ms();
        self.metrics
            .ended(outcome, now_ms.saturating_sub(submitted_ms));
        let mut breaker = self.breaker.borrow_mut();
        let before = breaker.state();
        match outcome {
            // This server's own bound says nothing of the backend.
            HookOutcome::Unavailable(Unavailable::Busy) => breaker.abandon(permit, now_ms),
            _ => breaker.report(permit, is_success(outcome), now_ms, fastrand::u32(..)),
        }
        let after = breaker.state();
        self.metrics.show_breaker(after);
        if before != after {
            self.log_breaker(after, outcome);
        }
    }

    fn log_breaker(&self, state: BreakerState, outcome: &HookOutcome) {
        let hook = self.metrics.name();
        match state {
            BreakerState::Closed => info!(hook, "the backend answers again"),
            BreakerState::HalfOpen => {}
            BreakerState::Open => {
                let last = outcome.label();
                warn!(
                    hook,
                    last, "the backend keeps failing; it is not called for a while"
                );
            }
        }
    }

    /// Returns the connection to the pool, or to the caller if its last exchange is not quite over.
    fn give_back_if_ready(&self, connection: Connection) -> Option<Connection> {
        if !connection.is_ready() {
            return Some(connection);
        }
        self.backend.give_back(connection);
        None
    }

    /// Returns the connection to the pool as soon as it can serve another call.
    async fn give_back(&self, mut connection: Connection) {
        if let Ok(true) = timeout(READY_TIMEOUT, connection.is_reusable()).await {
            self.backend.give_back(connection);
        }
    }
}

/// Whether the backend did what it could: an error of the caller's making is none of its own.
fn is_success(outcome: &HookOutcome) -> bool {
    matches!(outcome, HookOutcome::Response { status, .. } if *status < 500)
}

impl From<Reply> for HookOutcome {
    fn from(reply: Reply) -> Self {
        Self::Response {
            status: reply.status,
            body: reply.body,
        }
    }
}

impl Source {
    fn ended(&self, fetched: &Result<Bytes, String>) {
        self.metrics.fetches.add(1);
        self.metrics.failures.add(u64::from(fetched.is_err()));
        let mut refresh = self.refresh.borrow_mut();
        refresh.ended(fetched.is_ok(), now_ms(), fastrand::u32(..));
        let was_failing = self.is_failing.replace(fetched.is_err());
        if let (Err(reason), false) = (fetched, was_failing) {
            let source = self.metrics.name();
            warn!(
                source,
                reason, "keys could not be fetched; those fetched before stay in use"
            );
        }
    }
}

/// What a worker is built from.
struct Parts<'a> {
    settings: &'a HooksSettings,
    tls: Option<Arc<tokio_rustls::rustls::ClientConfig>>,
    endpoints: Vec<Endpoint>,
    backends: Vec<(Origin, Rc<Backend>)>,
    sources: Vec<Source>,
    metrics: HooksMetrics,
}

impl<'a> Parts<'a> {
    fn new(settings: &'a HooksSettings) -> Result<Self, String> {
        let targets = settings.targets.iter().map(|target| &target.url);
        let sources = settings.key_sources.iter().map(|source| &source.url);
        let mut urls = targets.chain(sources);
        // Reading the platform's certificates takes a while and some memory: only if there is a use for them.
        let is_tls = urls.any(|url| Url::parse(url).is_ok_and(|url| url.origin.is_tls));
        let tls = match is_tls {
            true => Some(tls::client_config(settings.ca_file.as_deref())?),
            false => None,
        };
        Ok(Self {
            settings,
            tls,
            endpoints: Vec::new(),
            backends: Vec::new(),
            sources: Vec::new(),
            metrics: HooksMetrics::default(),
        })
    }

    fn add_target(&mut self, target: &super::settings::TargetSettings) -> Result<(), String> {
        let url = Url::parse(&target.url)?;
        let backend = self.backend(&url.origin)?;
        let breaker = Breaker::new(self.settings.breaker);
        let metrics = self.metrics.add_target(&target.name);
        let endpoint = Endpoint::new(target, &url, breaker, backend, metrics);
        self.endpoints.push(endpoint);
        Ok(())
    }

    fn backend(&mut self, origin: &Origin) -> Result<Rc<Backend>, String> {
        let known = self.backends.iter().find(|(known, _)| known == origin);
        if let Some((_, backend)) = known {
            return Ok(Rc::clone(backend));
        }
        let timeout = Duration::from_millis(u64::from(self.settings.connect_timeout_ms));
        let dialer = Dialer::new(origin.clone(), self.tls.as_ref(), false, timeout)?;
        let metrics = self.metrics.add_backend(origin);
        let backend = Backend::new(dialer, self.settings.pool, metrics);
        self.backends.push((origin.clone(), Rc::clone(&backend)));
        Ok(backend)
    }

    fn add_source(&mut self, source: &super::settings::KeySourceSettings) -> Result<(), String> {
        let url = Url::parse(&source.url)?;
        let times = RefreshTimes {
            interval_ms: u64::from(source.refresh_interval_s) * 1000,
            min_interval_ms: MIN_FETCH_INTERVAL_MS,
        };
        self.sources.push(Source {
            dialer: Dialer::new(url.origin.clone(), self.tls.as_ref(), true, FETCH_TIMEOUT)?,
            url,
            refresh: RefCell::new(Refresh::new(times)),
            metrics: self.metrics.add_keys(&source.name),
            asking: RefCell::default(),
            document: RefCell::default(),
            is_failing: Cell::new(false),
        });
        Ok(())
    }
}
