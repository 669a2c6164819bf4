//! Traffic between cores: one bounded inbox per shard, and credits that keep it from ever being full.
//!
//! Every pair of shards has two allowances in the receiver's inbox: *data* (publications, bounded in
//! messages and bytes) and *control* (everything else). A sender counts what it sent, the receiver
//! what it has handled; the difference is what is in the inbox. A publication without room is
//! refused by its sender before it has an offset. A control message without room waits at its sender,
//! in a queue bounded by what it is about: the sender's channels and the requests it has not answered.
//! So nobody ever blocks on another shard.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::doorbell::{Doorbell, DoorbellWaiter};
use crate::hub::{ClientInfo, DeviceId, Key, Position, Publication, Refused};

use super::asks::{Answer, Ask, Order, Presence};
use super::backend::{HookAnswer, KeyNews};
use super::emulation::Emulate;
use super::polled::Poll;
use super::publish::Submission;

/// What one shard tells another.
#[derive(Debug)]
pub enum Message {
    /// Data, to the owner: sequence this.
    Publish(Box<Publish>),
    /// Data, from the owner: a channel you have subscribers of has a new publication.
    Deliver(Box<Deliver>),
    /// To the publisher's shard: what became of it.
    Published(Box<Published>),
    /// To the owner of a channel: a session wants to know something.
    Ask(Box<Ask>),
    /// Data, to the shard of a session: commands that came for it by a request.
    Emulate(Box<Emulate>),
    /// Data, to the shard of a session that is polled.
    Poll(Box<Poll>),
    /// To every shard: something is to be done with the connections of a user.
    Order(Box<Order>),
    /// To the shard that asked.
    Answer(Box<Answer>),
    /// To the owner of a channel: a client came or went there.
    Presence(Box<Presence>),
    /// To the owner of a device: a session takes it, and is answered when the one before has ended.
    TakeOver {
        /// The device.
        device: DeviceId,
        /// Who takes it.
        asker: Asker,
    },
    /// From the owner of a device: another has it by now, so this session is to end.
    Fence {
        /// The device.
        device: DeviceId,
        /// The session, on the receiving shard, if it is still there for what it took the device for.
        asker: Asker,
    },
    /// To the owner of a device: the session that was to end has.
    Fenced {
        /// The device.
        device: DeviceId,
    },
    /// To the owner of a device: a session holds it no more.
    GiveUp {
        /// The device.
        device: DeviceId,
        /// The session, on the sending shard, and for what it had taken it.
        asker: Asker,
    },
    /// Data, from the owner: a client came to a channel or left it.
    Event(Box<Event>),
    /// To the owner: this shard has subscribers now.
    Join(Box<Join>),
    /// From the owner: from now on you hear of it.
    Joined(Box<Joined>),
    /// From the owner: what was published before is not kept any more.
    HistoryRemoved {
        /// The channel in the receiver's table.
        local: Key,
    },
    /// From the owner: the channel cannot be opened.
    JoinRefused {
        /// The channel in the asking shard's table.
        local: Key,
    },
    /// To the owner: this shard has no subscribers any more.
    Leave {
        /// The channel in the owner's table.
        owned: Key,
        /// The channel in the leaving shard's table.
        local: Key,
    },
    /// To the owner: so many subscribers are here.
    Subscribers {
        /// The channel in the owner's table.
        owned: Key,
        /// The channel in the reporting shard's table.
        local: Key,
        /// How many.
        subscribers: u32,
    },
    /// To the owner: the fan-out pass of this many bytes began.
    Taken {
        /// The channel in the owner's table.
        owned: Key,
        /// The channel in the reporting shard's table.
        local: Key,
        /// Published bytes.
        bytes: u32,
    },
    /// From the hooks' thread: what became of a call.
    Hook(Box<HookAnswer>),
    /// From the hooks' thread: keys of tokens.
    Keys(Box<KeyNews>),
    /// From another shard of the core: the baton is yours.
    Turn,
    /// From the main thread: new connections go to these shards only.
    Steer(Box<[u16]>),
    /// From the main thread: close sessions, spread over this time.
    Drain(Duration),
    /// From the main thread, when every shard is drained: give the piece of the snapshot that begins with
    /// the channel at this place.
    Export(u32),
    /// From the main thread: end.
    Stop,
}

/// Who waits for another shard: a session, and which of its questions it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The session, on the asking shard.
    pub session: Key,
    /// Tells its questions apart.
    pub tag: u32,
}

/// A publication on its way to the channel's owner.
#[derive(Debug)]
pub struct Publish {
    /// Who waits for the answer.
    pub asker: Asker,
    /// What is to be published.
    pub submission: Submission,
}

/// A sequenced publication on its way to a shard with subscribers.
#[derive(Debug)]
pub struct Deliver {
    /// The channel in the receiver's table.
    pub local: Key,
    /// Where the channel is with it.
    pub position: Position,
    /// The publication.
    pub publication: Publication,
}

/// A client's coming or going on its way to a shard with subscribers.
#[derive(Debug)]
pub struct Event {
    /// The channel in the receiver's table.
    pub local: Key,
    /// Whose.
    pub info: Arc<ClientInfo>,
    /// It came; else it left.
    pub is_join: bool,
    /// What it counts for in the channel's batch.
    pub credit_bytes: u32,
}

/// The owner's answer to [`Publish`].
#[derive(Debug)]
pub struct Published {
    /// Who waits.
    pub asker: Asker,
    /// The publication's place, or why it has none.
    pub outcome: Result<Position, Refused>,
}

/// A shard's wish to hear of a channel.
#[derive(Debug)]
pub struct Join {
    /// The channel's name.
    pub channel: Arc<str>,
    /// The channel in the asking shard's table.
    pub local: Key,
}

/// The owner's answer to [`Join`].
#[derive(Clone, Copy, Debug)]
pub struct Joined {
    /// The channel in the asking shard's table.
    pub local: Key,
    /// The channel in the owner's table.
    pub owned: Key,
    /// Where the channel is: what comes from now on follows it.
    pub position: Position,
}

const _: () = assert!(size_of::<Message>() <= 32);

impl Message {
    /// The published bytes of a data message; `None` for control.
    fn data_bytes(&self) -> Option<u64> {
        match self {
            Self::Publish(publish) => Some(publish.submission.data.len() as u64),
            Self::Deliver(deliver) => Some(deliver.publication.data.len() as u64),
            Self::Emulate(emulate) => Some(emulate.emulated.commands.len() as u64),
            Self::Poll(poll) => Some(poll.bytes() as u64),
            Self::Event(event) => Some(u64::from(event.credit_bytes)),
            _ => None,
        }
    }
}

/// How much one sender may have in one inbox.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Publications.
    pub data_messages: u64,
    /// Bytes of publications; one of any size is let through when none is there.
    pub data_bytes: u64,
    /// Other messages.
    pub control_messages: u64,
}

impl Allowance {
    /// Shares an inbox of `messages` places and `bytes` among `senders`: three quarters for data.
    pub fn share(messages: usize, bytes: usize, senders: usize) -> Self {
        let places = (messages / senders.max(1)).max(16) as u64;
        Self {
            data_messages: places - places / 4,
            data_bytes: (bytes / senders.max(1)).max(1) as u64,
            control_messages: places / 4,
        }
    }
}

/// What a receiver has handled of one sender's messages; written by the receiver only.
#[derive(Debug, Default)]
struct Handled {
    data_messages: AtomicU64,
    data_bytes: AtomicU64,
    control_messages: AtomicU64,
}

impl Handled {
    fn count(&self, message: &Message) {
        // Release, against the Acquire in the sender: its place is free once the message was taken out.
        match message.data_bytes() {
            Some(bytes) => {
                self.data_messages.fetch_add(1, Ordering::Release);
                self.data_bytes.fetch_add(bytes, Ordering::Release);
            }
            None => {
                self.control_messages.fetch_add(1, Ordering::Release);
            }
        }
    }
}

struct Envelope {
    from: u16,
    message: Message,
}

/// One sender's way into one inbox.
pub struct Link {
    from: u16,
    sender: Sender<Envelope>,
    doorbell: Arc<Doorbell>,
    allowance: Allowance,
    handled: Arc<Handled>,
    sent_data_messages: u64,
    sent_data_bytes: u64,
    sent_control_messages: u64,
    /// Control messages without a place, oldest first.
    waiting: VecDeque<Message>,
}

impl Link {
    /// True if a publication of `bytes` has a place. While control messages wait there is none, so that
    /// what one shard sends another always arrives in order.
    pub fn has_room(&self, bytes: usize) -> bool {
        turn_over();
        let messages = self.sent_data_messages - self.handled.data_messages.load(Ordering::Acquire);
        let in_flight = self.sent_data_bytes - self.handled.data_bytes.load(Ordering::Acquire);
        self.waiting.is_empty()
            && messages < self.allowance.data_messages
            && (in_flight == 0 || in_flight + bytes as u64 <= self.allowance.data_bytes)
    }

    /// Sends a publication. The caller has asked [`Self::has_room`] in the same turn.
    pub fn send_data(&mut self, message: Message) {
        debug_assert!(message.data_bytes().is_some());
        self.sent_data_messages += 1;
        self.sent_data_bytes += message.data_bytes().unwrap_or(0);
        self.push(message);
    }

    /// Sends a control message, or keeps it until there is a place. True if it had to wait.
    pub fn send_control(&mut self, message: Message) -> bool {
        self.waiting.push_back(message);
        self.flush()
    }

    /// Sends control messages that wait, as far as there are places. True if some go on waiting.
    pub fn flush(&mut self) -> bool {
        while !self.waiting.is_empty() && self.has_control_room() {
            if let Some(message) = self.waiting.pop_front() {
                self.sent_control_messages += 1;
                self.push(message);
            }
        }
        !self.waiting.is_empty()
    }

    fn has_control_room(&self) -> bool {
        turn_over();
        let in_inbox =
            self.sent_control_messages - self.handled.control_messages.load(Ordering::Acquire);
        in_inbox < self.allowance.control_messages
    }

    fn push(&self, message: Message) {
        let from = self.from;
        turn_over();
        // The inbox has a place for every allowance of every sender, so it cannot be full. It can be
        // disconnected, when the process ends and its shard was faster.
        let _ = self.sender.try_send(Envelope { from, message });
        turn_over();
        self.doorbell.ring();
    }
}

/// What other shards may see changes here: in a model of them, now it may be their turn.
#[inline]
fn turn_over() {
    #[cfg(test)]
    super::handover_model::turn_over();
}

/// The receiving end of a shard.
pub struct Inbox {
    receiver: Receiver<Envelope>,
    doorbell: Arc<Doorbell>,
    /// By sender.
    handled: Vec<Arc<Handled>>,
}

impl Inbox {
    /// Takes out the oldest message and who sent it.
    pub fn pop(&self) -> Option<(u16, Message)> {
        turn_over();
        let Envelope { from, message } = self.receiver.try_recv().ok()?;
        turn_over();
        self.handled[usize::from(from)].count(&message);
        Some((from, message))
    }

    /// True if nothing is there.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// What to wait on; see [`Doorbell::waiter`].
    pub fn waiter(&self) -> std::io::Result<DoorbellWaiter<'_>> {
        self.doorbell.waiter()
    }
}

/// The inbox of one shard and its links to every inbox, its own included.
pub struct Ports {
    /// What others send to this shard.
    pub inbox: Inbox,
    /// By receiver.
    pub links: Vec<Link>,
}

/// Connects `doorbells.len()` shards and `outsiders`, threads that only send: the ports of every shard, and the
/// links of each outsider to them.
pub fn connect(
    doorbells: &[Arc<Doorbell>],
    outsiders: usize,
    messages: usize,
    bytes: usize,
) -> (Vec<Ports>, Vec<Vec<Link>>) {
    let shards = doorbells.len();
    let senders = shards + outsiders;
    let allowance = Allowance::share(messages, bytes, senders);
    let places = (allowance.data_messages + allowance.control_messages) as usize * senders;
    let mut links: Vec<Vec<Link>> = (0..senders).map(|_| Vec::with_capacity(shards)).collect();
    let mut inboxes = Vec::with_capacity(shards);
    for doorbell in doorbells {
        let (sender, receiver) = bounded(places);
        let handled: Vec<Arc<Handled>> = (0..senders).map(|_| Arc::default()).collect();
        for (from, links) in links.iter_mut().enumerate() {
            links.push(Link {
                from: from as u16,
                sender: sender.clone(),
                doorbell: Arc::clone(doorbell),
                allowance,
                handled: Arc::clone(&handled[from]),
                sent_data_messages: 0,
                sent_data_bytes: 0,
                sent_control_messages: 0,
                waiting: VecDeque::new(),
            });
        }
        inboxes.push(Inbox {
            receiver,
            doorbell: Arc::clone(doorbell),
            handled,
        });
    }
    let outside = links.split_off(shards);
    let ports = inboxes.into_iter().zip(links);
    let ports = ports.map(|(inbox, links)| Ports { inbox, links });
    (ports.collect(), outside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Epoch, Kind};

    fn deliver(bytes: usize) -> Message {
        let data = bytes::Bytes::from(vec![b'x'; bytes]);
        let publication = Publication::new(Kind::Text, data, 0);
        let position = Position {
            epoch: Epoch::from_random(1),
            offset: 1,
        };
        let local = Key {
            slot: 0,
            generation: 0,
        };
        Message::Deliver(Box::new(Deliver {
            local,
            position,
            publication,
        }))
    }

    fn pair(messages: usize, bytes: usize) -> (Ports, Ports) {
        let doorbells = [(); 2].map(|()| Arc::new(Doorbell::open().unwrap()));
        let (ports, _) = connect(&doorbells, 1, messages, bytes);
        let mut ports = ports.into_iter();
        (ports.next().unwrap(), ports.next().unwrap())
    }

    #[test]
    fn data_is_refused_at_the_allowance_and_let_through_when_handled() {
        let (mut a, b) = pair(48, 3_000_000);
        let link = &mut a.links[1];
        for _ in 0..12 {
            assert!(link.has_room(10));
            link.send_data(deliver(10));
        }
        assert!(!link.has_room(10));
        assert_eq!(b.inbox.pop().map(|(from, _)| from), Some(0));
        assert!(link.has_room(10));
    }

    #[test]
    fn data_is_bounded_in_bytes_but_one_of_any_size_goes() {
        let (mut a, b) = pair(48, 300);
        let link = &mut a.links[1];
        assert!(link.has_room(1000));
        link.send_data(deliver(1000));
        assert!(!link.has_room(1));
        b.inbox.pop();
        assert!(link.has_room(100));
    }

    #[test]
    fn control_waits_in_order_and_goes_on_when_there_is_room() {
        let (mut a, b) = pair(48, 300);
        let link = &mut a.links[1];
        let waits: Vec<bool> = (1..=6)
            .map(|seconds| link.send_control(Message::Drain(Duration::from_secs(seconds))))
            .collect();
        assert_eq!(waits, [false, false, false, false, true, true]);
        let mut seen = Vec::new();
        while let Some((_, Message::Drain(time))) = b.inbox.pop() {
            seen.push(time.as_secs());
            link.flush();
        }
        assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn data_and_control_do_not_take_each_others_places() {
        let (mut a, _b) = pair(48, 3_000_000);
        let link = &mut a.links[1];
        while link.has_room(1) {
            link.send_data(deliver(1));
        }
        assert!(!link.send_control(Message::Stop));
    }
}
