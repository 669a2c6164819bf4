//! One thread of connections: its ring, its file table, its share of the run.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use longwire::net::{self, GiveWay, Stream};
use longwire::proto::close::CloseCode;
use longwire::proto::frame::{Opcode, encode_masked_frame};
use monoio::time::{sleep, timeout};

use crate::clock::now_ns;
use crate::connect;
use crate::counters::{Cause, Causes, Counters};
use crate::latency::Latency;
use crate::order::SubscriberOrder;
use crate::pace::Schedule;
use crate::payload::Stamp;
use crate::plan::Share;
use crate::run::Run;
use crate::session::Session;

/// Bytes read at a time, into one buffer all connections of a thread share.
const SCRATCH_BYTES: usize = 64 * 1024;
/// How often the stop flag is looked at.
const STOP_POLL: Duration = Duration::from_millis(50);
/// Closing ends after so many looks at the stop flag's pace without a connection that ended.
const CLOSE_PATIENCE: u32 = 40;
/// Connections closed before the ring gets a turn.
const CLOSE_SLICE: usize = 256;

/// A thread's connections and figures.
pub struct Worker {
    run: Arc<Run>,
    thread: usize,
    share: Share,
    scratch: RefCell<Box<[u8]>>,
    /// Open connections by number, so that they can be closed from outside their tasks.
    held: RefCell<Vec<Option<Rc<Stream>>>>,
    open: Cell<usize>,
    tally: RefCell<Tally>,
    /// Number of the next connection to make.
    next: Cell<usize>,
    /// This side is closing: connections that end now are not lost.
    closing: Cell<bool>,
}

/// What a thread has to report at the end.
#[derive(Debug, Default)]
pub struct Tally {
    /// TCP and WebSocket handshake.
    pub connect_latency: Latency,
    /// From when a message was meant to be published until it was received.
    pub delivery_latency: Latency,
    /// Connections that could not be made.
    pub failed: Causes,
    /// Connections that ended before they should.
    pub lost: Causes,
    /// By connection number, if the run checks its messages.
    pub subscribers: Vec<Option<Subscriber>>,
    /// Messages that are not of this run.
    pub foreign_messages: u64,
    /// Messages of this run on the wrong channel.
    pub misdelivered_messages: u64,
}

/// A connection that checks what it receives.
#[derive(Debug)]
pub struct Subscriber {
    /// Its channel's number.
    pub channel: u32,
    /// Its connection lives.
    pub live: bool,
    /// What it received.
    pub order: SubscriberOrder,
}

/// Runs a thread's share until the run is stopped.
pub fn run_thread(run: Arc<Run>, thread: usize) -> Result<Tally, String> {
    let share = run.shares[thread];
    net::own_file_table().map_err(|error| format!("no file table of its own: {error}"))?;
    if run.pin && !net::pin_to_core(thread) {
        return Err("cannot be kept on one core".to_owned());
    }
    let mut runtime = net::build_runtime().map_err(|refused| refused.to_string())?;
    let worker = Rc::new(Worker::new(run, thread, share));
    runtime.block_on(work(Rc::clone(&worker)))?;
    Ok(worker.tally.take())
}

/// The thread's main task. Connections have tasks of their own; those still open at the end are left
/// to the end of the thread, whose file table closes with it.
async fn work(worker: Rc<Worker>) -> Result<(), String> {
    let give_way = GiveWay::new().map_err(|error| format!("no descriptor: {error}"))?;
    for _ in 0..worker.share.connect_in_flight.min(worker.share.connections) {
        monoio::spawn(make_connections(Rc::clone(&worker)));
    }
    while !worker.run.is_stopped() {
        sleep(STOP_POLL).await;
    }
    worker.closing.set(true);
    worker.close_all(&give_way).await;
    worker.wait_until_closed().await;
    Ok(())
}

/// Makes one connection after the other; as many of these tasks run as may be in flight.
async fn make_connections(worker: Rc<Worker>) {
    while let Some(number) = worker.take_number() {
        if let Some(schedule) = &worker.run.connect_schedule {
            wait_for_turn(schedule, worker.thread, number).await;
        }
        if worker.run.is_stopped() {
            return;
        }
        worker.make_connection(number).await;
    }
}

async fn wait_for_turn(schedule: &Schedule, thread: usize, number: usize) {
    let due_ns = schedule.due_ns(thread as u64, number as u64);
    let wait_ns = due_ns.saturating_sub(now_ns());
    if wait_ns > 0 {
        sleep(Duration::from_nanos(wait_ns)).await;
    }
}

impl Worker {
    fn new(run: Arc<Run>, thread: usize, share: Share) -> Self {
        let checked = if run.check.is_some() {
            share.connections
        } else {
            0
        };
        let none = |count| std::iter::repeat_with(|| None).take(count).collect();
        let subscribers = std::iter::repeat_with(|| None).take(checked).collect();
        Self {
            run,
            thread,
            share,
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
            held: RefCell::new(none(share.connections)),
            open: Cell::new(0),
            tally: RefCell::new(Tally {
                subscribers,
                ..Tally::default()
            }),
            next: Cell::new(0),
            closing: Cell::new(false),
        }
    }

    /// The thread's figures.
    pub fn counters(&self) -> &Counters {
        &self.run.counters[self.thread]
    }

    /// The buffer all connections read into. Not to be held across an await.
    pub fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    /// Takes a data message of a connection.
    pub fn receive(&self, number: usize, payload: &[u8], received_ns: u64) {
        let counters = self.counters();
        counters.messages.add(1);
        counters.last_message_ns.set(received_ns);
        if let Some(check) = self.run.check {
            self.tally
                .borrow_mut()
                .check(check.run, number, payload, received_ns);
        }
    }

    /// Counts a connection that ended, unless this side ends them.
    pub fn lose(&self, number: usize, cause: &Cause) {
        if self.closing.get() {
            return;
        }
        self.counters().lost.add(1);
        let mut tally = self.tally.borrow_mut();
        tally.lost.count(cause);
        if let Some(Some(subscriber)) = tally.subscribers.get_mut(number) {
            subscriber.live = false;
        }
    }

    /// Lets go of a connection whose task ends.
    pub fn release(&self, number: usize) {
        self.held.borrow_mut()[number] = None;
        self.open.set(self.open.get() - 1);
    }

    fn take_number(&self) -> Option<usize> {
        let number = self.next.get();
        self.next.set(number + 1);
        (number < self.share.connections).then_some(number)
    }

    async fn make_connection(self: &Rc<Self>, number: usize) {
        let started_ns = now_ns();
        let opening = connect::open(&self.run, self.share.first + number);
        // Boxed: a task that makes connections is not to carry the handshake's state around twice.
        match timeout(self.run.connect_timeout, Box::pin(opening)).await {
            Ok(Ok(opened)) => self.hold(number, opened, now_ns() - started_ns),
            Ok(Err(cause)) => self.fail(&cause),
            Err(_) => self.fail(&Cause::TimedOut),
        }
    }

    fn hold(self: &Rc<Self>, number: usize, opened: connect::Opened, took_ns: u64) {
        if self.closing.get() {
            return;
        }
        self.note_connected(number, took_ns);
        let stream = Rc::new(opened.stream);
        self.held.borrow_mut()[number] = Some(Rc::clone(&stream));
        self.open.set(self.open.get() + 1);
        let mut leftover = opened.leftover;
        let mut session = Session::new(Rc::clone(self), stream, number);
        match session.begin(&mut leftover) {
            Ok(()) => drop(monoio::spawn(session.run())),
            Err(cause) => session.end(&cause),
        }
    }

    fn note_connected(&self, number: usize, took_ns: u64) {
        let mut tally = self.tally.borrow_mut();
        tally.connect_latency.record(took_ns);
        if let Some(check) = self.run.check {
            let channel = self.run.channel_of(self.share.first + number);
            let order = SubscriberOrder::new(check.publishers);
            tally.subscribers[number] = Some(Subscriber {
                channel,
                live: true,
                order,
            });
        }
        self.counters().connected.add(1);
    }

    fn fail(&self, cause: &Cause) {
        self.tally.borrow_mut().failed.count(cause);
        self.counters().failed.add(1);
    }

    /// Sends a Close frame on every open connection.
    async fn close_all(&self, give_way: &GiveWay) {
        let mut frame = Vec::new();
        let code = CloseCode::Normal.code().to_be_bytes();
        encode_masked_frame(
            &mut frame,
            Opcode::Close,
            fastrand::u32(..).to_ne_bytes(),
            &code,
        );
        for number in 0..self.share.connections {
            if let Some(stream) = &self.held.borrow()[number]
                && !stream
                    .try_send(&frame)
                    .is_ok_and(|sent| sent == frame.len())
            {
                stream.shutdown(std::net::Shutdown::Both);
            }
            if number % CLOSE_SLICE == CLOSE_SLICE - 1 {
                give_way.turn().await;
            }
        }
    }

    /// Waits for the server to end the connections: whichever side ends first keeps the port in
    /// TIME_WAIT, and it must not be this one. What it does not end is reset.
    async fn wait_until_closed(&self) {
        let mut unchanged = 0;
        while self.open.get() > 0 && unchanged < CLOSE_PATIENCE {
            let before = self.open.get();
            sleep(STOP_POLL).await;
            unchanged = if self.open.get() < before {
                0
            } else {
                unchanged + 1
            };
        }
        for stream in self.held.borrow().iter().flatten() {
            stream.reset_on_close();
        }
    }
}

impl Tally {
    fn check(&mut self, run: u32, number: usize, payload: &[u8], received_ns: u64) {
        let subscriber = self.subscribers.get_mut(number).and_then(Option::as_mut);
        match (Stamp::decode(payload), subscriber) {
            (Some(stamp), Some(subscriber)) if stamp.run == run => {
                if stamp.channel != subscriber.channel {
                    self.misdelivered_messages += 1;
                } else if subscriber.order.receive(stamp.publisher, stamp.sequence) {
                    self.delivery_latency
                        .record(received_ns.saturating_sub(stamp.intended_ns));
                } else {
                    self.foreign_messages += 1;
                }
            }
            _ => self.foreign_messages += 1,
        }
    }
}
