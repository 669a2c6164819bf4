//! One thread of connections: its ring, its file table, its share of the run.

mod broadcast;
mod centrifuge;
mod deadlines;
mod departure;
mod echo;
mod positions;
mod slots;
mod tally;

pub use broadcast::BroadcastTally;
pub use deadlines::Deadlines;
pub use positions::PositionTally;
pub use tally::{Alike, Reference, Subscriber, Tally};

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use longwire::net::{self, GiveWay, Stream};
use longwire::proto::close::CloseCode;
use longwire::proto::frame::{Opcode, encode_masked_frame};
use monoio::time::sleep;

use crate::clock::now_ns;
use crate::connect;
use crate::counters::{Cause, Counters};
use crate::last::LastReceipts;
use crate::listen::Transport;
use crate::order::SubscriberOrder;
use crate::pace::Schedule;
use crate::payload::Stamp;
use crate::plan::Share;
use crate::rival::Rival;
use crate::run::Run;
use crate::session::Session;

use centrifuge::Clients;
use departure::{Closes, Returns};
use echo::Lanes;
use slots::{Sent, Slots};

/// Bytes read at a time, into one buffer all connections of a thread share.
const SCRATCH_BYTES: usize = 64 * 1024;
/// How often the stop flag is looked at.
const STOP_POLL: Duration = Duration::from_millis(50);
/// Closing ends after so many looks at the stop flag's pace without a connection that ended.
const CLOSE_PATIENCE: u32 = 40;
/// What a Close frame without a code counts as (RFC 6455 7.1.5).
const NO_STATUS: u16 = 1005;
/// How often the start is looked for.
const START_POLL: Duration = Duration::from_millis(2);
/// Connections dealt with before the ring gets a turn.
const SLICE: usize = 256;

/// A thread's connections and figures.
pub struct Worker {
    run: Arc<Run>,
    thread: usize,
    share: Share,
    scratch: RefCell<Box<[u8]>>,
    /// Open connections by number, so that others than their own tasks can send and close.
    slots: RefCell<Slots>,
    /// What they keep as Centrifuge clients, if they are.
    clients: Clients,
    /// What they echo, if the run is for that.
    lanes: RefCell<Lanes>,
    tally: RefCell<Tally>,
    /// Number of the next connection to make.
    next: Cell<usize>,
    /// Until when each handshake may take.
    handshakes: Deadlines,
    /// Until when the server may take to end connections that this side closes.
    closes: RefCell<Closes>,
    /// Connections that wait before they come back.
    returns: RefCell<Returns>,
    /// This side is closing: connections that end now are not lost.
    closing: Cell<bool>,
}

/// A connection that was made.
#[derive(Clone, Copy, Debug)]
enum Held {
    /// For the first time.
    First {
        /// TCP and WebSocket handshake.
        took_ns: u64,
    },
    /// After it had gone on purpose.
    Again {
        /// TCP and WebSocket handshake, the attempt that went well.
        took_ns: u64,
        /// Since it had gone.
        away_ns: u64,
    },
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
    let mut tally = worker.tally.take();
    tally.group_alike();
    Ok(tally)
}

/// The thread's main task. Connections have tasks of their own; those still open at the end are left
/// to the end of the thread, whose file table closes with it.
async fn work(worker: Rc<Worker>) -> Result<(), String> {
    let give_way = open_give_way()?;
    monoio::spawn(begin_connecting(Rc::clone(&worker)));
    if worker.run.spin {
        monoio::spawn(spin(open_give_way()?));
    }
    if let Some(echo) = worker.run.echo {
        let give_way = open_give_way()?;
        monoio::spawn(Rc::clone(&worker).drive_echo(echo, give_way));
    }
    if let Some(departures) = worker.run.departures {
        let give_way = open_give_way()?;
        monoio::spawn(Rc::clone(&worker).drive_departures(departures, give_way));
        monoio::spawn(Rc::clone(&worker).drive_returns());
    }
    while !worker.run.is_stopped() {
        worker.handshakes.sweep(now_ns());
        worker.reset_unclosed(now_ns());
        worker.end_overdue_greetings(now_ns());
        sleep(STOP_POLL).await;
    }
    worker.closing.set(true);
    worker.close_all(&give_way).await;
    worker.wait_until_closed().await;
    Ok(())
}

fn open_give_way() -> Result<GiveWay, String> {
    GiveWay::new().map_err(|error| format!("no descriptor: {error}"))
}

/// Keeps the ring from ever waiting.
async fn spin(give_way: GiveWay) {
    loop {
        give_way.turn().await;
    }
}

/// Sends what waits on a connection.
async fn send_rest(worker: Rc<Worker>, number: usize, stream: Rc<Stream>) {
    loop {
        if stream.writable().await.is_err() {
            return;
        }
        // An error is found again, and counted, by the connection's own task.
        match worker.slots.borrow_mut().send_more(number, &stream) {
            Ok(false) => {}
            Ok(true) | Err(_) => return,
        }
    }
}

/// Waits for the thread's turn to connect.
async fn begin_connecting(worker: Rc<Worker>) {
    while !worker.run.may_connect(worker.thread) {
        sleep(START_POLL).await;
    }
    for _ in 0..worker.run.connect_in_flight(worker.thread) {
        monoio::spawn(make_connections(Rc::clone(&worker)));
    }
}

/// Makes one connection after the other; as many of these tasks run as may be in flight.
async fn make_connections(worker: Rc<Worker>) {
    while let Some(number) = worker.take_number() {
        if let Some(schedule) = &worker.run.connect_schedule {
            wait_for_turn(schedule, worker.thread, number).await;
        }
        worker.wait_for_greetings().await;
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
        let subscriptions = share.connections * run.subscriptions();
        let checked = run.check.map_or(0, |_| subscriptions);
        let clients = run.centrifuge.as_ref().map_or(0, |_| subscriptions);
        let lanes = run.echo.map_or(0, |_| share.connections);
        let broadcasts = run
            .broadcasts
            .map(|number| BroadcastTally::new(number, share.connections))
            .unwrap_or_default();
        let is_one_channel = run.check.is_some_and(|check| check.channels == 1);
        let subscribers = std::iter::repeat_with(|| None).take(checked).collect();
        Self {
            run,
            thread,
            share,
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
            slots: RefCell::new(Slots::new(share.connections)),
            clients: Clients::new(clients),
            lanes: RefCell::new(Lanes::new(lanes)),
            tally: RefCell::new(Tally {
                subscribers,
                broadcasts,
                last_receipts: is_one_channel.then(LastReceipts::default),
                ..Tally::default()
            }),
            next: Cell::new(0),
            handshakes: Deadlines::default(),
            closes: RefCell::default(),
            returns: RefCell::default(),
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
    pub fn receive(
        self: &Rc<Self>,
        number: usize,
        opcode: Opcode,
        payload: &[u8],
        received_ns: u64,
    ) -> Result<(), Cause> {
        if let Some(rival) = &self.run.rival {
            return self.receive_from_rival(rival, number, payload, received_ns);
        }
        if let Some(clients) = &self.run.centrifuge {
            return self.receive_from_centrifuge(clients, number, payload, received_ns);
        }
        if let Some(echo) = &self.run.echo {
            self.receive_echo(echo, number, (opcode, payload), received_ns)?;
        }
        if let Some(reference) = self.run.reference() {
            let mut tally = self.tally.borrow_mut();
            tally.check(&reference, number, payload, received_ns);
        }
        if self.run.broadcasts.is_some() {
            let broadcasts = &mut self.tally.borrow_mut().broadcasts;
            broadcasts.receive(number, payload, received_ns);
        }
        let counters = self.counters();
        counters.last_message_ns.set(received_ns);
        counters.messages.add(1);
        Ok(())
    }

    /// Takes what holds any number of messages, each with a stamp.
    pub fn receive_any(
        self: &Rc<Self>,
        number: usize,
        data: &[u8],
        received_ns: u64,
    ) -> Result<(), Cause> {
        for stamp in Stamp::find_all(data) {
            self.receive(number, Opcode::Text, &stamp.encode(0), received_ns)?;
        }
        Ok(())
    }

    /// Takes a message of another server: what it says itself, or any number of publications.
    fn receive_from_rival(
        self: &Rc<Self>,
        rival: &Rival,
        number: usize,
        payload: &[u8],
        received_ns: u64,
    ) -> Result<(), Cause> {
        if let Some(answer) = rival.answer(payload) {
            self.counters().pings.add(1);
            return self.reply(number, Opcode::Text, answer);
        }
        let Some(reference) = self.run.reference() else {
            return Ok(());
        };
        let (mut tally, counters) = (self.tally.borrow_mut(), self.counters());
        for stamp in Stamp::find_all(payload) {
            tally.check_stamp(&stamp, &reference, number, received_ns);
            counters.messages.add(1);
            counters.last_message_ns.set(received_ns);
        }
        Ok(())
    }

    /// Subscribes as another server wants it.
    fn subscribe(self: &Rc<Self>, number: usize) -> Result<(), Cause> {
        let channel = self.run.channel_of(self.share.first + number);
        let frame = self.run.rival.as_ref();
        match frame.and_then(|rival| rival.subscribe_frame(channel)) {
            Some(frame) => self.reply(number, Opcode::Text, frame.as_bytes()),
            None => Ok(()),
        }
    }

    /// Sends a control frame or another short one on a connection.
    pub fn reply(
        self: &Rc<Self>,
        number: usize,
        opcode: Opcode,
        payload: &[u8],
    ) -> Result<(), Cause> {
        let mut frame = Vec::new();
        let mask = fastrand::u32(..).to_ne_bytes();
        encode_masked_frame(&mut frame, opcode, mask, payload);
        let sent = self.slots.borrow_mut().reply(number, &frame)?;
        self.go_on(number, sent);
        Ok(())
    }

    /// Sends bytes on a connection.
    pub fn send(self: &Rc<Self>, number: usize, bytes: &[u8]) -> Result<(), Cause> {
        let sent = self.slots.borrow_mut().send(number, bytes)?;
        self.go_on(number, sent);
        Ok(())
    }

    /// Sees to what the kernel did not take.
    fn go_on(self: &Rc<Self>, number: usize, sent: Sent) {
        if let Sent::Left(stream) = sent {
            monoio::spawn(send_rest(Rc::clone(self), number, stream));
        }
    }

    /// Takes the server's Close frame and answers it, unless it is itself an answer.
    pub fn receive_close(self: &Rc<Self>, number: usize, code: Option<u16>) -> Result<(), Cause> {
        if self.closing.get() || self.slots.borrow().is_leaving(number) {
            return Ok(());
        }
        self.lose(number, &Cause::Close(code.unwrap_or(NO_STATUS)));
        let code = code.map(u16::to_be_bytes);
        let payload = code.as_ref().map_or(&[][..], |code| code);
        self.reply(number, Opcode::Close, payload)
    }

    /// Counts a connection that ended, unless this side ends them.
    pub fn lose(&self, number: usize, cause: &Cause) {
        if self.closing.get()
            || self.slots.borrow().is_leaving(number)
            || self.lose_greeting(number, cause)
        {
            return;
        }
        self.counters().lost.add(1);
        let mut tally = self.tally.borrow_mut();
        tally.lost.count(cause);
        tally.broadcasts.close(number);
        for subscriber in self.subscribers_of(number, &mut tally).flatten() {
            subscriber.live = false;
        }
    }

    /// The subscriptions of a connection that check what they receive.
    fn subscribers_of<'a>(
        &self,
        number: usize,
        tally: &'a mut Tally,
    ) -> impl Iterator<Item = &'a mut Option<Subscriber>> + use<'a> {
        let subscriptions = self.run.subscriptions();
        let first = number * subscriptions;
        tally.subscribers.iter_mut().skip(first).take(subscriptions)
    }

    /// Lets go of a connection whose task ends. One that went on purpose comes back.
    pub fn release(self: &Rc<Self>, number: usize) {
        let left = self.slots.borrow_mut().vacate(number);
        if left && !self.closing.get() {
            self.come_back(number);
        }
    }

    /// Waits until no more connections wait for their replies than may be under way.
    async fn wait_for_greetings(&self) {
        let most = self.run.connect_in_flight(self.thread);
        while self.clients.greetings_count() >= most.max(1) && !self.run.is_stopped() {
            sleep(START_POLL).await;
        }
    }

    fn take_number(&self) -> Option<usize> {
        let number = self.next.get();
        self.next.set(number + 1);
        (number < self.share.connections).then_some(number)
    }

    async fn make_connection(self: &Rc<Self>, number: usize) {
        match self.open(number).await {
            Ok((opened, took_ns)) => self.hold(number, opened, Held::First { took_ns }),
            Err(cause) => self.fail(&cause),
        }
    }

    /// Connects; gives the connection and how long that took, in nanoseconds.
    async fn open(&self, number: usize) -> Result<(connect::Opened, u64), Cause> {
        let started_ns = now_ns();
        let opening = connect::open(&self.run, self.share.first + number, &self.scratch);
        let deadline_ns = started_ns + self.run.connect_timeout.as_nanos() as u64;
        let opened = self.handshakes.bound(deadline_ns, Box::pin(opening)).await;
        Ok((opened.ok_or(Cause::TimedOut)??, now_ns() - started_ns))
    }

    fn hold(self: &Rc<Self>, number: usize, opened: connect::Opened, held: Held) {
        if self.closing.get() {
            return;
        }
        let stream = Rc::new(opened.stream);
        self.slots.borrow_mut().fill(number, Rc::clone(&stream));
        let mut leftover = opened.leftover;
        let mut session = Session::new(Rc::clone(self), stream, number, opened.listener);
        let begun = match &self.run.centrifuge {
            Some(clients) => self.greet(clients, number, held),
            None => {
                self.note_connected(number, held);
                self.subscribe(number)
            }
        };
        match begun.and_then(|()| session.begin(&mut leftover)) {
            Ok(()) => drop(monoio::spawn(session.run())),
            Err(cause) => session.end(&cause),
        }
    }

    fn note_connected(&self, number: usize, held: Held) {
        let mut tally = self.tally.borrow_mut();
        match held {
            Held::First { took_ns } => {
                tally.connect_latency.record(took_ns);
                tally.broadcasts.open(number);
                // Those of a Centrifuge client begin with their replies.
                if self.run.centrifuge.is_none()
                    && let Some(subscriber) = tally.subscribers.get_mut(number)
                {
                    *subscriber = self.new_subscriber(number, 0);
                }
            }
            Held::Again { took_ns, away_ns } => {
                tally.reconnect_latency.record(took_ns);
                tally.away.record(away_ns);
                self.counters().returned.add(1);
            }
        }
        self.counters().connected.add(1);
    }

    fn new_subscriber(&self, number: usize, nth: u32) -> Option<Subscriber> {
        let check = self.run.check?;
        Some(Subscriber {
            channel: self
                .run
                .channel_of(self.share.first + number + nth as usize),
            live: true,
            order: SubscriberOrder::new(check.publishers),
        })
    }

    fn fail(&self, cause: &Cause) {
        self.tally.borrow_mut().failed.count(cause);
        self.counters().failed.add(1);
    }

    /// Sends a Close frame on every open connection, or resets it.
    async fn close_all(self: &Rc<Self>, give_way: &GiveWay) {
        let code = CloseCode::Normal.code().to_be_bytes();
        for number in 0..self.share.connections {
            if self.run.transport != Transport::Websocket {
                // There is no Close; to end first in order would keep the port in TIME_WAIT.
                self.slots.borrow_mut().reset(number);
            } else if self.reply(number, Opcode::Close, &code).is_err() {
                self.slots.borrow().shut_down(number);
            }
            if number % SLICE == SLICE - 1 {
                give_way.turn().await;
            }
        }
    }

    /// Waits for the server to end the connections: whichever side ends first keeps the port in
    /// TIME_WAIT, and it must not be this one. What it does not end is reset.
    async fn wait_until_closed(&self) {
        let mut unchanged = 0;
        let open = || self.slots.borrow().open_count();
        while open() > 0 && unchanged < CLOSE_PATIENCE {
            let before = open();
            sleep(STOP_POLL).await;
            unchanged = if open() < before { 0 } else { unchanged + 1 };
        }
        for stream in self.slots.borrow().streams() {
            stream.reset_on_close();
        }
    }
}
