//! Connections that go on purpose and come back as well-behaved clients do.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

use longwire::net::{GiveWay, Stream};
use longwire::proto::close::CloseCode;
use longwire::proto::frame::Opcode;
use monoio::time::sleep;

use crate::clock::now_ns;
use crate::run::Departures;

use super::{Held, SLICE, START_POLL, Worker};

/// Looks for a connection that may go; nearly all may.
const PICKS: usize = 32;
/// How often connections are looked for whose wait is over.
const RETURN_POLL: Duration = Duration::from_millis(2);

/// Connections that wait before they come back, the next one first. A storm has very many, and a task
/// with a timer for each would take forty times as much.
#[derive(Debug, Default)]
pub struct Returns(BinaryHeap<Reverse<(u64, Return)>>);

/// Closing handshakes under way, in the order of their deadlines: until when, whose, on which stream.
pub type Closes = VecDeque<(u64, usize, Weak<Stream>)>;

/// A connection on its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Return {
    number: usize,
    /// Since when it is away.
    left_ns: u64,
    /// Attempts that failed so far.
    attempt: u32,
}

impl Returns {
    /// Puts all off that were due at times since `from_ns`, to the same times since `to_ns`.
    fn put_off(&mut self, from_ns: u64, to_ns: u64) {
        let shift_ns = to_ns.saturating_sub(from_ns);
        let all = std::mem::take(&mut self.0);
        let later = all
            .into_iter()
            .map(|Reverse((due_ns, coming))| Reverse((due_ns + shift_ns, coming)));
        self.0 = later.collect();
    }

    fn push(&mut self, due_ns: u64, coming: Return) {
        self.0.push(Reverse((due_ns, coming)));
    }

    fn pop_due(&mut self, now_ns: u64) -> Option<Return> {
        let next = self.0.peek_mut()?;
        if next.0.0 > now_ns {
            return None;
        }
        let Reverse((_, coming)) = PeekMut::pop(next);
        Some(coming)
    }
}

impl Worker {
    /// Lets connections go once the run says so.
    pub(super) async fn drive_departures(self: Rc<Self>, plan: Departures, give_way: GiveWay) {
        while !self.run.is_under_way(now_ns()) {
            if self.run.is_stopped() {
                return;
            }
            sleep(START_POLL).await;
        }
        match plan {
            Departures::AtOnce { share } => self.cut(share, &give_way).await,
            Departures::Steady { rate } => self.replace(rate).await,
        }
    }

    /// Resets a share of the connections, as a broken network would.
    async fn cut(self: &Rc<Self>, share: f64, give_way: &GiveWay) {
        for number in 0..self.share.connections {
            if Departures::is_chosen(self.share.first + number, share) {
                self.leave_by_reset(number);
            }
            if number % SLICE == SLICE - 1 {
                give_way.turn().await;
            }
        }
    }

    /// Ends a connection with a reset; its task brings it back. One that is gone already comes back too.
    fn leave_by_reset(self: &Rc<Self>, number: usize) {
        if self.slots.borrow_mut().reset(number) {
            self.note_left(number);
        } else {
            self.come_back(number);
        }
    }

    /// Lets one connection after the other go, each by another way than the last.
    async fn replace(self: &Rc<Self>, rate: f64) {
        let schedule = self.run.departure_schedule(rate);
        for n in 0.. {
            let due_ns = schedule.due_ns(self.thread as u64, n);
            sleep(Duration::from_nanos(due_ns.saturating_sub(now_ns()))).await;
            if !self.run.is_under_way(now_ns()) {
                return;
            }
            let Some(number) = self.choose() else {
                continue;
            };
            if n % 2 == 0 {
                self.leave_by_reset(number);
            } else {
                self.leave_by_close(number);
            }
        }
    }

    /// Any open connection that may go; `None` if a few looks find none.
    fn choose(&self) -> Option<usize> {
        let slots = self.slots.borrow();
        let mut picks = std::iter::repeat_with(|| fastrand::usize(..self.share.connections));
        let may_go = |number: &usize| {
            !Departures::stays(self.share.first + number)
                && slots.is_open(*number)
                && !slots.is_leaving(*number)
        };
        picks.by_ref().take(PICKS).find(may_go)
    }

    /// Closes a connection as RFC 6455 says; its task brings it back when the server has ended it. A server
    /// that does not is not waited for longer than for a connection.
    fn leave_by_close(self: &Rc<Self>, number: usize) {
        let Some(stream) = self.slots.borrow_mut().start_leaving(number) else {
            return;
        };
        self.note_left(number);
        let code = CloseCode::Normal.code().to_be_bytes();
        // If it cannot be sent, the connection has ended, and its task finds that out.
        let _ = self.reply(number, Opcode::Close, &code);
        let deadline_ns = now_ns() + self.run.connect_timeout.as_nanos() as u64;
        let close = (deadline_ns, number, Rc::downgrade(&stream));
        self.closes.borrow_mut().push_back(close);
    }

    /// Resets the connections that the server has not ended in time.
    pub(super) fn reset_unclosed(&self, now_ns: u64) {
        let mut closes = self.closes.borrow_mut();
        while let Some((_, number, stream)) = closes.pop_front_if(|close| close.0 <= now_ns) {
            let mut slots = self.slots.borrow_mut();
            if stream
                .upgrade()
                .is_some_and(|stream| slots.holds(number, &stream))
            {
                self.counters().unclosed.add(1);
                slots.reset(number);
            }
        }
    }

    fn note_left(&self, number: usize) {
        self.counters().replaced.add(1);
        let clients = self.run.centrifuge.as_ref();
        if clients.is_some_and(|clients| clients.recover) {
            // It will say what it has, and is owed the rest.
            return;
        }
        let mut tally = self.tally.borrow_mut();
        for subscriber in self.subscribers_of(number, &mut tally) {
            *subscriber = None;
        }
    }

    /// Since when a connection that now comes back is away.
    fn left_ns(&self) -> u64 {
        match self.run.departures {
            // All of them since the cut, however long it takes this program to notice.
            Some(Departures::AtOnce { .. }) => self.run.start_ns(),
            Some(Departures::Steady { .. }) | None => now_ns(),
        }
    }

    /// Connects again, as often as it takes.
    pub(super) fn come_back(self: &Rc<Self>, number: usize) {
        let coming = Return {
            number,
            left_ns: self.left_ns(),
            attempt: 0,
        };
        self.try_after(coming, None);
    }

    /// Makes the next attempt when its wait is over.
    fn try_after(self: &Rc<Self>, coming: Return, retry_after: Option<Duration>) {
        let wait = self.run.backoff.wait(coming.attempt, retry_after);
        let due_ns = now_ns() + wait.as_nanos() as u64;
        self.returns.borrow_mut().push(due_ns, coming);
    }

    /// Makes every attempt soon after it is due. Those that are due before a sleep are made after it: by then
    /// the ring has closed the connection that went, and its local port is free.
    pub(super) async fn drive_returns(self: Rc<Self>) {
        self.wait_for_release().await;
        while !self.closing.get() {
            let asleep_ns = now_ns();
            sleep(RETURN_POLL).await;
            let next = || self.returns.borrow_mut().pop_due(asleep_ns);
            for coming in std::iter::from_fn(next) {
                monoio::spawn(Rc::clone(&self).try_to_return(coming));
            }
        }
    }

    /// Waits as long as those that went are held away.
    async fn wait_for_release(&self) {
        while self.run.returns_from_ns() == u64::MAX && !self.closing.get() {
            sleep(START_POLL).await;
        }
        let released_ns = self.run.returns_from_ns();
        if released_ns > 0 && released_ns < u64::MAX {
            let mut returns = self.returns.borrow_mut();
            returns.put_off(self.run.start_ns(), released_ns);
        }
    }

    async fn try_to_return(self: Rc<Self>, coming: Return) {
        if self.closing.get() {
            return;
        }
        match self.open(coming.number).await {
            Ok((opened, took_ns)) => {
                let left_ns = coming.left_ns.max(self.run.returns_from_ns());
                let away_ns = now_ns().saturating_sub(left_ns);
                self.hold(coming.number, opened, Held::Again { took_ns, away_ns });
            }
            Err(cause) => {
                self.tally.borrow_mut().refused.count(&cause);
                self.counters().refused.add(1);
                let attempt = coming.attempt + 1;
                let coming = Return { attempt, ..coming };
                self.try_after(coming, cause.retry_after());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_back_when_they_are_due() {
        let coming = |number| Return {
            number,
            left_ns: 0,
            attempt: 0,
        };
        let mut returns = Returns::default();
        for (due_ns, number) in [(30, 0), (10, 1), (20, 2)] {
            returns.push(due_ns, coming(number));
        }
        assert_eq!(returns.pop_due(9), None);
        assert_eq!(returns.pop_due(20), Some(coming(1)));
        assert_eq!(returns.pop_due(20), Some(coming(2)));
        assert_eq!(returns.pop_due(20), None);
    }
}
