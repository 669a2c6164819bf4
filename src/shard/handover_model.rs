//! A channel that gets its first subscriber on a shard, loses its last and gets one again, while publications are
//! on their way: cores in threads of their own, under a scheduler that decides at random whose turn it is.
//!
//! What runs is the whole [`Core`] with its real inboxes, links and messages. Only the threads are the model's:
//! wherever the state of an inbox is read or changed ([`turn_over`]) another of them may go on. So a message can
//! arrive between any two that one turn of a core sends, and between the look at a credit and its use. Inboxes are
//! as small as they may be: control messages wait at their senders, and publications are refused.
//!
//! What must hold is what `interleavings` checks, of every client: contiguous offsets from the position it was
//! told, recovered before live, nothing twice, one publication for each offset. And in the end the owner has
//! exactly the shards with subscribers, nobody owes credit, and nothing of the channel is left where nobody listens.
//!
//! Planted to see whether it would find them, one at a time. It found each of these within a few executions:
//!
//! | planted | found as |
//! |---|---|
//! | who subscribes while a batch waits is not marked as late (`LocalChannel::add_subscriber`) | a duplicate |
//! | a channel is given up while somebody waits to subscribe (`Core::leave_if_empty`) | a subscription that is refused |
//! | publications do not wait behind control messages (`Link::has_room`) | credit that is owed for ever |
//! | a publication on its way to a channel's earlier life is for its present one (`Core::deliver`) | credit that is owed for ever |
//! | the owner does not hear of a pass that nobody was left for (`Core::begin_passes`) | credit that is owed for ever |
//! | what came during a channel's last pass gives no credit back (`Batch::rest`) | credit that is owed for ever |
//! | the position in the owner's answer is not taken (`Core::joined`) | a gap |
//!
//! That a `Leave` names the life of the channel that it ends is not among them: links keep messages in order, so that
//! it always comes before the next `Join`.
//!
//! What overtakes is planted for good: `a_message_that_overtakes_is_found`.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use shuttle::rand::Rng;
use shuttle::scheduler::RandomScheduler;
use shuttle::{Runner, thread};

use super::inbox::{Asker, Inbox, Message};
use super::interleavings::{Account, Heard, publish};
use super::polled::{Poll, Polling};
use super::testing::{Bed, bells};
use super::{AnswerTo, Core, Doorbell};
use crate::config::Config;
use crate::hub::Key;
use crate::metrics::CloseReason;
use crate::net::build_runtime;

/// The owner, and two that come and go.
const SHARDS: usize = 3;
/// Clients of each shard.
const CLIENTS: usize = 2;
/// Turns of each thread.
const TURNS: usize = 50;
const EXECUTIONS: usize = 1500;
/// No more are begun after so long.
const TIME_MAX: Duration = Duration::from_secs(20);

thread_local! {
    /// Set while the model's threads run, which are all in one thread of the system.
    static IS_MODEL: Cell<bool> = const { Cell::new(false) };
    /// Shards between the thread that made them and their own. A core cannot be sent to another thread, and is not.
    static SHARDS_AT_REST: RefCell<Vec<Option<Modelled>>> = const { RefCell::new(Vec::new()) };
}

/// Another thread of the model may go on here.
pub(super) fn turn_over() {
    if IS_MODEL.get() {
        thread::yield_now();
    }
}

/// A client without a socket: what it is sent waits in its outbox.
#[derive(Default)]
struct Listener {
    session: Option<(Box<str>, Key)>,
    account: Account,
}

/// A core with all that is its thread's.
struct Modelled {
    core: Core,
    inbox: Inbox,
    listeners: Vec<Listener>,
    /// Ids that name sessions of this shard.
    ids: Vec<Box<str>>,
    channel: Arc<str>,
    heard: Heard,
    published: u64,
    /// What the thread does to messages.
    tampering: Tampering,
}

/// What is planted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tampering {
    Nothing,
    /// Of two messages that wait, now and then the second is handled first.
    Overtaking,
}

impl Modelled {
    /// Lets a client come: a session that is polled, from the first request on.
    fn come(&mut self, number: usize) {
        let Some(id) = self.ids.pop() else {
            return;
        };
        self.core.poll(poll(&id, Polling::Receive));
        let key = self.core.polled[&id];
        let listener = &mut self.listeners[number];
        let commands = listener.account.come(&self.channel);
        listener.session = Some((id.clone(), key));
        self.core.poll(poll(&id, Polling::Send(commands.into())));
    }

    /// Ends a client's connection. It keeps its place, or forgets it.
    fn go(&mut self, number: usize, forgets: bool) {
        self.read(number);
        let listener = &mut self.listeners[number];
        if let Some((_, key)) = listener.session.take() {
            self.core.end(key, CloseReason::PeerReset, true);
        }
        if forgets {
            listener.account = Account::default();
        }
    }

    /// What has come for a client, held against what it had.
    fn read(&mut self, number: usize) {
        let listener = &mut self.listeners[number];
        let Some((id, key)) = &listener.session else {
            return;
        };
        let session = self.core.sessions.get_mut(*key).expect("it was not ended");
        if session.outbox.is_none() && session.client().is_some() {
            return;
        }
        let Some(AnswerTo::Polled(frame)) = self.core.poll(poll(id, Polling::Receive)) else {
            panic!("what waits is there for whoever asks");
        };
        let messages = frame
            .strip_prefix(b"a")
            .unwrap_or_else(|| panic!("it was ended: {frame:?}"));
        let messages: Vec<String> = serde_json::from_slice(messages).unwrap();
        for message in messages {
            listener.account.hear(&message, &mut self.heard);
        }
    }

    /// One of all the things a shard may do next.
    fn act(&mut self) {
        let mut random = shuttle::rand::thread_rng();
        let number = random.gen_range(0..CLIENTS);
        match random.gen_range(0..12) {
            0..=1 => {
                let data = u64::from(self.core.id) * 1_000_000 + self.published;
                self.published += 1;
                publish(&mut self.core, &self.channel, data);
            }
            2..=3 if self.listeners[number].session.is_none() => self.come(number),
            2..=3 => self.go(number, random.gen_bool(0.3)),
            4..=6 => {
                self.core.fan_out();
            }
            7 => {
                self.core.flush_links();
                self.core.tell_news(8);
            }
            _ => {
                self.handle();
            }
        }
        (0..CLIENTS).for_each(|number| self.read(number));
    }

    /// Handles a message, if there is one.
    fn handle(&mut self) -> bool {
        let Some(first) = self.inbox.pop() else {
            return false;
        };
        let mut next: Vec<(u16, Message)> = vec![first];
        if self.tampering == Tampering::Overtaking && shuttle::rand::thread_rng().gen_bool(0.3) {
            next.extend(self.inbox.pop());
            next.reverse();
        }
        for (from, message) in next {
            self.core.handle(from, message);
        }
        true
    }

    fn run(mut self) -> Self {
        for _ in 0..TURNS {
            turn_over();
            self.act();
        }
        self
    }

    /// Does all that can be done now. False if that was nothing.
    fn settle(&mut self) -> bool {
        let mut was_busy = false;
        while self.handle() || self.core.fan_out() {
            was_busy = true;
        }
        let waited = self.core.has_waiting_control;
        self.core.flush_links();
        self.core.tell_news(usize::MAX);
        (0..CLIENTS).for_each(|number| self.read(number));
        was_busy || waited
    }
}

fn poll(id: &str, polling: Polling) -> Poll {
    let nobody = Asker {
        session: Key {
            slot: u32::MAX,
            generation: 0,
        },
        tag: 0,
    };
    Poll {
        asker: nobody,
        id: id.into(),
        polling,
    }
}

fn config() -> Config {
    let mut config = Config::default();
    config.fanout.slice_sends = 1;
    config.client.limits.ping_interval_s = 0;
    config.admission.handshakes_per_s = 0;
    // As many as must be.
    config.inbox.messages = 1;
    config
}

/// Puts a new server's shards where their threads find them.
fn build(bells: &[Arc<Doorbell>], tampering: Tampering) {
    let bed = Bed::with_bells(bells, config());
    let channel: Arc<str> = bed.channel_of(0).into();
    let shared = Arc::clone(&bed.cores[0].shared);
    let shards = bed.cores.into_iter().zip(bed.inboxes);
    let shards = shards.map(|(core, inbox)| {
        let ids = (0..).map(|number| format!("session-{number}"));
        let own = ids.filter(|id| shared.owner_of(id) == core.id);
        Some(Modelled {
            ids: own.take(TURNS).map(Into::into).collect(),
            core,
            inbox,
            listeners: (0..CLIENTS).map(|_| Listener::default()).collect(),
            channel: Arc::clone(&channel),
            heard: Heard::new(),
            published: 0,
            tampering,
        })
    });
    SHARDS_AT_REST.set(shards.collect());
}

fn take_shard(number: usize) -> Option<Modelled> {
    SHARDS_AT_REST.with_borrow_mut(|shards| shards[number].take())
}

fn put_shard(number: usize, shard: Modelled) {
    SHARDS_AT_REST.with_borrow_mut(|shards| shards[number] = Some(shard));
}

/// One execution: every shard in its thread, then all to their end, then what must hold.
fn execute(bells: &[Arc<Doorbell>], tampering: Tampering) {
    build(bells, tampering);
    IS_MODEL.set(true);
    let threads: Vec<_> = (0..SHARDS)
        .map(|number| {
            thread::spawn(move || {
                let shard = take_shard(number).expect("it is put there once");
                put_shard(number, shard.run());
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    IS_MODEL.set(false);
    let mut shards: Vec<Modelled> = SHARDS_AT_REST.take().into_iter().flatten().collect();
    while shards.iter().any(|shard| !shard.inbox.is_empty())
        | shards
            .iter_mut()
            .fold(false, |any, shard| shard.settle() | any)
    {}
    check(&mut shards);
}

fn check(shards: &mut [Modelled]) {
    let owner = &mut shards[0];
    let owned = owner.core.owned.find(&owner.channel);
    let owned = owned.and_then(|key| owner.core.owned.get(key));
    let (top, mut interested) = match owned {
        Some(channel) => {
            assert!(channel.has_room(1, 0), "somebody owes credit");
            let shards = channel.interested().iter();
            let shards = shards.map(|interest| (interest.shard, interest.subscribers));
            (channel.position().offset, shards.collect())
        }
        None => (0, Vec::new()),
    };
    interested.sort_unstable();
    let mut subscribed = Vec::new();
    let mut heard = Heard::new();
    for shard in shards {
        let listeners = shard.listeners.iter();
        let here: Vec<_> = listeners.filter(|one| one.session.is_some()).collect();
        for listener in &here {
            let account = &listener.account;
            assert!(account.has_all(top), "not up to {top}: {account:?}");
        }
        if !here.is_empty() {
            subscribed.push((shard.core.id, here.len() as u32));
        }
        assert_eq!(shard.core.local.len(), usize::from(!here.is_empty()));
        let mut links = shard.core.links.iter();
        assert!(
            links.all(|link| link.has_room(usize::MAX / 2)),
            "messages are lost"
        );
        for (offset, number) in &shard.heard {
            assert_eq!(heard.entry(*offset).or_insert(*number), number);
        }
    }
    assert_eq!(interested, subscribed, "the owner knows who listens");
}

/// Tries executions until one fails.
fn explore(tampering: Tampering) {
    let mut runtime = build_runtime().unwrap();
    let bells = bells(SHARDS);
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    config.max_time = Some(TIME_MAX);
    config.failure_persistence = shuttle::FailurePersistence::None;
    let runner = Runner::new(RandomScheduler::new(EXECUTIONS), config);
    // The rings of the cores are made in a thread that runs one.
    runtime.block_on(async { runner.run(move || execute(&bells, tampering)) });
}

#[test]
fn a_channel_is_handed_over_without_loss_whoever_comes_and_goes() {
    explore(Tampering::Nothing);
}

#[test]
fn a_message_that_overtakes_is_found() {
    let found = catch_unwind(AssertUnwindSafe(|| explore(Tampering::Overtaking)));
    IS_MODEL.set(false);
    assert!(found.is_err(), "the model is blind");
}
