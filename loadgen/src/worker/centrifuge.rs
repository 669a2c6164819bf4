//! What a thread's connections say and hear as clients of the Centrifuge protocol.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use longwire::proto::frame::Opcode;

use crate::centrifuge::{Centrifuge, Message, PONG, Publication, Since, Subscribed, messages};
use crate::clock::now_ns;
use crate::counters::Cause;

use super::positions::{Begin, Begun, Positions};
use super::{Held, Worker};

/// What a thread keeps for them. A subscription takes 16 bytes, and nothing without this protocol.
#[derive(Debug, Default)]
pub struct Clients {
    /// By connection and subscription.
    positions: RefCell<Positions>,
    /// Connections that have not had all their replies, by number.
    greetings: RefCell<HashMap<usize, Greeting>>,
}

/// A connection whose WebSocket is open, but not its subscriptions.
#[derive(Clone, Copy, Debug)]
struct Greeting {
    held: Held,
    opened_ns: u64,
    deadline_ns: u64,
    /// Replies that are to come.
    replies: u32,
}

impl Clients {
    /// With so many subscriptions.
    pub fn new(subscriptions: usize) -> Self {
        Self {
            positions: RefCell::new(Positions::new(subscriptions)),
            greetings: RefCell::default(),
        }
    }

    /// Connections that have not had all their replies.
    pub fn greetings_count(&self) -> usize {
        self.greetings.borrow().len()
    }
}

impl Worker {
    /// Says what a connection begins with. It counts as made once all replies are there.
    pub(super) fn greet(
        self: &Rc<Self>,
        clients: &Centrifuge,
        number: usize,
        held: Held,
    ) -> Result<(), Cause> {
        let opened_ns = now_ns();
        let greeting = Greeting {
            held,
            opened_ns,
            deadline_ns: opened_ns + self.run.connect_timeout.as_nanos() as u64,
            replies: clients.replies(),
        };
        self.clients.greetings.borrow_mut().insert(number, greeting);
        let mut frame = clients.connect(self.share.first + number);
        for nth in 0..clients.subscriptions {
            frame.push('\n');
            frame.push_str(&self.subscription(clients, number, nth));
        }
        self.say(number, frame.as_bytes())
    }

    /// The command for a subscription, which goes on where it was if it can.
    fn subscription(&self, clients: &Centrifuge, number: usize, nth: u32) -> String {
        let index = self.share.first + number;
        let channel = Centrifuge::channel_of(index, nth, self.run.channels());
        let positions = self.clients.positions.borrow();
        let since = clients
            .recover
            .then(|| positions.since(self.slot(number, nth)));
        let since = since.flatten();
        let since = since.as_ref().map(|(epoch, offset)| Since {
            epoch,
            offset: *offset,
        });
        clients.subscribe(nth, channel, since)
    }

    /// The place of a connection's `nth` subscription among all of the thread's.
    fn slot(&self, number: usize, nth: u32) -> usize {
        number * self.run.subscriptions() + nth as usize
    }

    /// Takes a frame.
    pub(super) fn receive_from_centrifuge(
        self: &Rc<Self>,
        clients: &Centrifuge,
        number: usize,
        frame: &[u8],
        received_ns: u64,
    ) -> Result<(), Cause> {
        for message in messages(frame) {
            match message.map_err(|_| Cause::NotCentrifuge)? {
                Message::Publication {
                    channel,
                    publication,
                } => self.receive_publication(clients, number, channel, &publication, received_ns),
                Message::Ping => {
                    self.counters().pings.add(1);
                    self.say(number, PONG)?;
                }
                Message::Connected => self.note_reply(number),
                Message::Subscribed { nth, subscribed } => {
                    self.note_subscribed(clients, number, nth, &subscribed);
                    self.note_reply(number);
                }
                Message::Refused { code } => return Err(Cause::Refused(code)),
                Message::Unsubscribed { channel } => {
                    self.subscribe_again(clients, number, channel)?;
                }
                Message::Other => {}
            }
        }
        Ok(())
    }

    fn say(self: &Rc<Self>, number: usize, frame: &[u8]) -> Result<(), Cause> {
        self.reply(number, Opcode::Text, frame)
    }

    fn receive_publication(
        &self,
        clients: &Centrifuge,
        number: usize,
        channel: Option<u32>,
        publication: &Publication<'_>,
        received_ns: u64,
    ) {
        let index = self.share.first + number;
        let nth = channel.and_then(|channel| clients.nth_of(index, channel, self.run.channels()));
        let mut tally = self.tally.borrow_mut();
        let Some(nth) = nth else {
            tally.foreign_messages += 1;
            return;
        };
        let slot = self.slot(number, nth);
        let mut positions = self.clients.positions.borrow_mut();
        positions.advance(slot, publication.offset, &mut tally.positions);
        if let Some(reference) = self.run.reference() {
            tally.check(&reference, slot, publication.payload(), received_ns);
        }
        if self.run.broadcasts.is_some() {
            let payload = publication.payload();
            tally.broadcasts.receive(number, payload, received_ns);
        }
        self.counters().last_message_ns.set(received_ns);
        self.counters().messages.add(1);
    }

    /// Takes the reply to a subscription, and all that it recovered.
    fn note_subscribed(
        &self,
        clients: &Centrifuge,
        number: usize,
        nth: u32,
        subscribed: &Subscribed<'_>,
    ) {
        if nth >= clients.subscriptions {
            return;
        }
        let (slot, greeting) = (self.slot(number, nth), self.greeting(number));
        let begin = Begin {
            positioned: subscribed.positioned,
            recoverable: subscribed.recoverable,
            epoch: subscribed.epoch,
            offset: subscribed.offset,
            recovered: subscribed.was_recovering && subscribed.recovered,
        };
        let is_first = matches!(
            greeting.map(|greeting| greeting.held),
            Some(Held::First { .. })
        );
        let mut tally = self.tally.borrow_mut();
        let mut positions = self.clients.positions.borrow_mut();
        match positions.begin(slot, &begin, !is_first, &mut tally.positions) {
            Begun::First => {
                if let Some(subscriber) = tally.subscribers.get_mut(slot) {
                    *subscriber = self.new_subscriber(number, nth);
                }
            }
            Begun::Recovered => {
                for publication in &subscribed.publications {
                    tally.positions.recovered_publications += 1;
                    positions.advance(slot, publication.offset, &mut tally.positions);
                    if let Some(check) = self.run.check {
                        tally.check_recovered(publication.payload(), check.run, slot);
                    }
                }
            }
            Begun::Told => {
                if let Some(subscriber) = tally.subscribers.get_mut(slot) {
                    *subscriber = None;
                }
            }
        }
    }

    /// The server ended a subscription: the client makes it again.
    fn subscribe_again(
        self: &Rc<Self>,
        clients: &Centrifuge,
        number: usize,
        channel: Option<u32>,
    ) -> Result<(), Cause> {
        let index = self.share.first + number;
        let nth = channel.and_then(|channel| clients.nth_of(index, channel, self.run.channels()));
        let Some(nth) = nth else {
            return Ok(());
        };
        self.tally.borrow_mut().positions.unsubscribed += 1;
        let command = self.subscription(clients, number, nth);
        self.say(number, command.as_bytes())
    }

    fn greeting(&self, number: usize) -> Option<Greeting> {
        self.clients.greetings.borrow().get(&number).copied()
    }

    /// Takes a reply; the connection is made with the last one.
    fn note_reply(&self, number: usize) {
        let mut greetings = self.clients.greetings.borrow_mut();
        let Some(greeting) = greetings.get_mut(&number) else {
            return;
        };
        greeting.replies -= 1;
        if greeting.replies > 0 {
            return;
        }
        let more_ns = now_ns() - greeting.opened_ns;
        let held = match greeting.held {
            Held::First { took_ns } => Held::First {
                took_ns: took_ns + more_ns,
            },
            Held::Again { took_ns, away_ns } => Held::Again {
                took_ns: took_ns + more_ns,
                away_ns: away_ns + more_ns,
            },
        };
        greetings.remove(&number);
        // Nobody else keeps what a storm of them took.
        if greetings.is_empty() {
            greetings.shrink_to_fit();
        }
        drop(greetings);
        self.note_connected(number, held);
    }

    /// Takes note of a connection that ended before it had all its replies; false if it is not one.
    pub(super) fn lose_greeting(&self, number: usize, cause: &Cause) -> bool {
        let greeting = self.clients.greetings.borrow_mut().remove(&number);
        let Some(greeting) = greeting else {
            return false;
        };
        let cause = match greeting.deadline_ns <= now_ns() {
            true => &Cause::TimedOut,
            false => cause,
        };
        match greeting.held {
            Held::First { .. } => self.fail(cause),
            Held::Again { .. } => {
                self.tally.borrow_mut().refused.count(cause);
                self.counters().refused.add(1);
                // It comes back as one that went on purpose.
                self.slots.borrow_mut().start_leaving(number);
            }
        }
        true
    }

    /// Ends connections whose replies do not come in time.
    pub(super) fn end_overdue_greetings(&self, now_ns: u64) {
        let greetings = self.clients.greetings.borrow();
        let overdue = greetings
            .iter()
            .filter(|(_, greeting)| greeting.deadline_ns <= now_ns);
        for (number, _) in overdue {
            self.slots.borrow().shut_down(*number);
        }
    }
}
