//! Subscribers of a check: a thread of them, each a task that connects, records what it hears, and comes back
//! however its connection ended.

use std::cell::RefCell;
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longwire::net::{self, Stream};
use longwire::proto::frame::{Opcode, encode_masked_frame};
use longwire::proto::message::{Event as FrameEvent, MessageLimits, MessageReader, Role};
use monoio::time::sleep;

use crate::backoff::Backoff;
use crate::centrifuge::{Centrifuge, Message, PONG, Publication, Since, Subscribed, messages};
use crate::clock::now_ns;
use crate::connect;
use crate::counters::{Cause, Counters};
use crate::payload::Stamp;
use crate::plan::Share;
use crate::run::Run;
use crate::worker::Deadlines;

use super::records::{Epochs, Event, Payload, Resumed, SubscriberLog};

/// How often orders are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Bytes read at a time.
const SCRATCH_BYTES: usize = 64 * 1024;
/// Whatever the server sends, up to a size no check uses.
const LIMITS: MessageLimits = MessageLimits {
    message_bytes: 64 << 20,
    frames_per_message: 1 << 20,
};

/// What a thread is told while it runs.
#[derive(Debug, Default)]
pub struct Control {
    orders: Mutex<Vec<Order>>,
    stop: AtomicBool,
}

/// What is done to subscribers, by number within the thread.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// Reset its connection.
    Kill(usize),
    /// Read nothing for so long.
    Pause(usize, Duration),
    /// Reset all connections.
    KillAll,
}

impl Control {
    /// Has the thread do something soon.
    pub fn give(&self, order: Order) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.push(order);
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn take(&self) -> Vec<Order> {
        std::mem::take(&mut *self.orders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A thread's subscribers.
struct Clients {
    run: Arc<Run>,
    control: Arc<Control>,
    epochs: Arc<Mutex<Epochs>>,
    thread: usize,
    share: Share,
    scratch: RefCell<Box<[u8]>>,
    handshakes: Deadlines,
    subscribers: RefCell<Vec<Subscriber>>,
}

/// One of them, over all its connections.
#[derive(Default)]
struct Subscriber {
    stream: Option<Rc<Stream>>,
    paused_until_ns: u64,
    is_subscribed: bool,
    /// Where it can go on from.
    since: Option<(String, u64)>,
    log: SubscriberLog,
}

/// Runs a thread's share until it is stopped; gives what each subscriber heard.
pub fn run_thread(
    run: Arc<Run>,
    thread: usize,
    control: Arc<Control>,
    epochs: Arc<Mutex<Epochs>>,
) -> Result<Vec<SubscriberLog>, String> {
    net::own_file_table().map_err(|error| format!("no file table of its own: {error}"))?;
    let mut runtime = net::build_runtime().map_err(|refused| refused.to_string())?;
    let share = run.shares[thread];
    let subscriber = |number: usize| Subscriber {
        log: SubscriberLog {
            channel: run.channel_of(share.first + number),
            events: Vec::new(),
        },
        ..Subscriber::default()
    };
    let clients = Rc::new(Clients {
        subscribers: RefCell::new((0..share.connections).map(subscriber).collect()),
        run,
        control,
        epochs,
        thread,
        share,
        scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
        handshakes: Deadlines::default(),
    });
    runtime.block_on(work(Rc::clone(&clients)));
    let subscribers = clients.subscribers.take();
    Ok(subscribers.into_iter().map(|each| each.log).collect())
}

async fn work(clients: Rc<Clients>) {
    for number in 0..clients.share.connections {
        monoio::spawn(Rc::clone(&clients).live(number));
    }
    while !clients.control.is_stopped() {
        clients.handshakes.sweep(now_ns());
        for order in clients.control.take() {
            clients.obey(order);
        }
        sleep(LOOK_INTERVAL).await;
    }
}

impl Clients {
    fn counters(&self) -> &Counters {
        &self.run.counters[self.thread]
    }

    fn obey(&self, order: Order) {
        let mut subscribers = self.subscribers.borrow_mut();
        match order {
            Order::Kill(number) => subscribers[number].reset(),
            Order::KillAll => subscribers.iter_mut().for_each(Subscriber::reset),
            Order::Pause(number, pause) => {
                subscribers[number].paused_until_ns = now_ns() + pause.as_nanos() as u64;
            }
        }
    }

    /// Connects again and again.
    async fn live(self: Rc<Self>, number: usize) {
        let backoff = Backoff {
            starts_at_once: false,
            ..self.run.backoff
        };
        let mut attempt = 0;
        loop {
            sleep(backoff.wait(attempt, None)).await;
            if self.control.is_stopped() {
                return;
            }
            let cause = match Rc::clone(&self).connect(number).await {
                Ok(ended) => ended,
                Err(cause) => {
                    self.counters().refused.add(1);
                    attempt += 1;
                    cause
                }
            };
            if self.end(number) {
                attempt = 0;
            }
            let retry_after = cause.retry_after().unwrap_or_default();
            sleep(retry_after).await;
        }
    }

    /// One connection, from its beginning to its end; an error if it was not made.
    async fn connect(self: Rc<Self>, number: usize) -> Result<Cause, Cause> {
        let index = self.share.first + number;
        let deadline_ns = now_ns() + self.run.connect_timeout.as_nanos() as u64;
        let opening = Box::pin(connect::open(&self.run, index, &self.scratch));
        let opened = self.handshakes.bound(deadline_ns, opening).await;
        let opened = opened.ok_or(Cause::TimedOut)??;
        let stream = Rc::new(opened.stream);
        self.subscribers.borrow_mut()[number].stream = Some(Rc::clone(&stream));
        let mut session = Session {
            clients: Rc::clone(&self),
            stream,
            number,
            reader: MessageReader::default(),
        };
        session.greet()?;
        let mut leftover = opened.leftover;
        Ok(match session.absorb(&mut leftover) {
            Ok(()) => session.listen().await,
            Err(cause) => cause,
        })
    }

    /// Takes note that a connection has ended; true if it was subscribed.
    fn end(&self, number: usize) -> bool {
        let subscriber = &mut self.subscribers.borrow_mut()[number];
        subscriber.stream = None;
        let was_subscribed = std::mem::take(&mut subscriber.is_subscribed);
        if was_subscribed {
            subscriber.log.events.push(Event::Ended);
            self.counters().lost.add(1);
        }
        was_subscribed
    }
}

impl Subscriber {
    fn reset(&mut self) {
        if let Some(stream) = &self.stream {
            stream.reset_on_close();
            stream.shutdown(Shutdown::Read);
        }
    }
}

/// One connection of a subscriber.
struct Session {
    clients: Rc<Clients>,
    stream: Rc<Stream>,
    number: usize,
    reader: MessageReader,
}

impl Session {
    fn index(&self) -> usize {
        self.clients.share.first + self.number
    }

    /// Says what a connection begins with.
    fn greet(&self) -> Result<(), Cause> {
        match &self.clients.run.centrifuge {
            Some(dialect) => {
                let connect = dialect.connect(self.index());
                let subscribe = self.subscription(dialect);
                self.send(Opcode::Text, format!("{connect}\n{subscribe}").as_bytes())
            }
            None => {
                self.note(Event::Listening);
                self.note_subscribed();
                Ok(())
            }
        }
    }

    fn subscription(&self, dialect: &Centrifuge) -> String {
        let subscribers = self.clients.subscribers.borrow();
        let subscriber = &subscribers[self.number];
        let since = subscriber.since.as_ref().map(|(epoch, offset)| Since {
            epoch,
            offset: *offset,
        });
        dialect.subscribe(0, subscriber.log.channel, since)
    }

    fn send(&self, opcode: Opcode, payload: &[u8]) -> Result<(), Cause> {
        let mut frame = Vec::new();
        let mask = fastrand::u32(..).to_ne_bytes();
        encode_masked_frame(&mut frame, opcode, mask, payload);
        let sent = self.stream.try_send(&frame)?;
        // What is sent is short: a server that does not take it has read nothing for very long.
        (sent == frame.len()).then_some(()).ok_or(Cause::NotReading)
    }

    /// Reads until the connection ends; says why.
    async fn listen(mut self) -> Cause {
        loop {
            self.wait_out_pause().await;
            let readable = self.stream.readable().await;
            // The pause may have begun during the wait.
            self.wait_out_pause().await;
            if let Err(cause) = readable.map_err(Cause::from).and_then(|()| self.turn()) {
                return cause;
            }
        }
    }

    async fn wait_out_pause(&self) {
        let until_ns = self.clients.subscribers.borrow()[self.number].paused_until_ns;
        let wait_ns = until_ns.saturating_sub(now_ns());
        if wait_ns > 0 {
            sleep(Duration::from_nanos(wait_ns)).await;
        }
    }

    fn turn(&mut self) -> Result<(), Cause> {
        let clients = Rc::clone(&self.clients);
        let mut scratch = clients.scratch.borrow_mut();
        match self.stream.try_recv(&mut scratch) {
            Ok(0) => Err(Cause::EndOfFile),
            Ok(read) => self.absorb(&mut scratch[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn absorb(&mut self, input: &mut [u8]) -> Result<(), Cause> {
        let mut at = 0;
        loop {
            let mut reader = std::mem::take(&mut self.reader);
            let step = reader.next(Role::Client, &LIMITS, &mut input[at..])?;
            at += step.consumed;
            let is_done = step.event.is_none() && step.consumed == 0;
            match step.event {
                Some(FrameEvent::Text(payload) | FrameEvent::Binary(payload)) => {
                    self.receive(payload)?;
                }
                Some(FrameEvent::Ping(payload)) => self.send(Opcode::Pong, payload)?,
                Some(FrameEvent::Close(close)) => {
                    return Err(Cause::Close(close.map_or(1005, |(code, _)| code)));
                }
                Some(FrameEvent::Pong(_)) | None => {}
            }
            self.reader = reader;
            if is_done {
                return Ok(());
            }
        }
    }

    fn receive(&self, frame: &[u8]) -> Result<(), Cause> {
        let Some(dialect) = &self.clients.run.centrifuge else {
            self.note_payload(0, frame);
            return Ok(());
        };
        for message in messages(frame) {
            match message.map_err(|_| Cause::NotCentrifuge)? {
                Message::Publication { publication, .. } => self.note_publication(&publication),
                Message::Subscribed { subscribed, .. } => self.begin(&subscribed),
                Message::Refused { code } => return Err(Cause::Refused(code)),
                Message::Ping => self.send(Opcode::Text, PONG)?,
                Message::Unsubscribed { .. } => {
                    self.note_unsubscribed();
                    let again = self.subscription(dialect);
                    self.send(Opcode::Text, again.as_bytes())?;
                }
                Message::Connected | Message::Other => {}
            }
        }
        Ok(())
    }

    /// Takes the reply to a subscription.
    fn begin(&self, subscribed: &Subscribed<'_>) {
        let event = match subscribed.positioned || subscribed.recoverable {
            false => Event::Listening,
            true => Event::Subscribed {
                epoch: self.epoch(subscribed.epoch),
                offset: subscribed.offset,
                resumed: match (self.has_since(), subscribed.recovered) {
                    (false, _) => Resumed::Fresh,
                    (true, true) => Resumed::Whole,
                    (true, false) => Resumed::Told,
                },
            },
        };
        self.note(event);
        self.note_subscribed();
        let since = (subscribed.epoch.to_owned(), subscribed.offset);
        let is_whole = self.has_since() && subscribed.recovered;
        if !is_whole {
            let mut subscribers = self.clients.subscribers.borrow_mut();
            subscribers[self.number].since = subscribed.recoverable.then_some(since);
        }
        for publication in &subscribed.publications {
            self.note_publication(publication);
        }
    }

    fn has_since(&self) -> bool {
        self.clients.subscribers.borrow()[self.number]
            .since
            .is_some()
    }

    fn epoch(&self, name: &str) -> u32 {
        let epochs = &self.clients.epochs;
        let mut epochs = epochs.lock().unwrap_or_else(PoisonError::into_inner);
        epochs.number(name)
    }

    fn note_publication(&self, publication: &Publication<'_>) {
        self.note_payload(publication.offset, publication.payload());
        let mut subscribers = self.clients.subscribers.borrow_mut();
        if let Some((_, offset)) = &mut subscribers[self.number].since {
            *offset = publication.offset;
        }
    }

    fn note_payload(&self, offset: u64, payload: &[u8]) {
        let run = self.clients.run.check.unwrap_or_default().run;
        let channel = self.clients.subscribers.borrow()[self.number].log.channel;
        let is_ours = |stamp: &Stamp| stamp.run == run && stamp.channel == channel;
        let event = match Stamp::decode(payload).filter(is_ours) {
            Some(stamp) => Event::Delivered {
                offset,
                payload: Payload {
                    publisher: stamp.publisher,
                    sequence: stamp.sequence,
                },
            },
            None => Event::Foreign,
        };
        self.note(event);
        let counters = self.clients.counters();
        counters.messages.add(1);
        counters.last_message_ns.set(now_ns());
    }

    fn note(&self, event: Event) {
        let mut subscribers = self.clients.subscribers.borrow_mut();
        subscribers[self.number].log.events.push(event);
    }

    fn note_subscribed(&self) {
        let mut subscribers = self.clients.subscribers.borrow_mut();
        let subscriber = &mut subscribers[self.number];
        if !std::mem::replace(&mut subscriber.is_subscribed, true) {
            self.clients.counters().connected.add(1);
        }
    }

    fn note_unsubscribed(&self) {
        let mut subscribers = self.clients.subscribers.borrow_mut();
        let subscriber = &mut subscribers[self.number];
        if std::mem::take(&mut subscriber.is_subscribed) {
            subscriber.log.events.push(Event::Ended);
            self.clients.counters().lost.add(1);
        }
    }
}
