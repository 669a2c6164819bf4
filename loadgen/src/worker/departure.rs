//! Connections that go on purpose and come back as well-behaved clients do.

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
            monoio::spawn(Rc::clone(self).come_back(number));
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
        monoio::spawn(Rc::clone(self).reset_unless_closed(number, Rc::downgrade(&stream)));
    }

    async fn reset_unless_closed(self: Rc<Self>, number: usize, stream: Weak<Stream>) {
        sleep(self.run.connect_timeout).await;
        let mut slots = self.slots.borrow_mut();
        if stream
            .upgrade()
            .is_some_and(|stream| slots.holds(number, &stream))
        {
            self.counters().unclosed.add(1);
            slots.reset(number);
        }
    }

    fn note_left(&self, number: usize) {
        self.counters().replaced.add(1);
        if let Some(subscriber) = self.tally.borrow_mut().subscribers.get_mut(number) {
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
    pub(super) async fn come_back(self: Rc<Self>, number: usize) {
        let left_ns = self.left_ns();
        let (mut attempt, mut retry_after) = (0, None);
        loop {
            sleep(self.run.backoff.wait(attempt, retry_after)).await;
            if self.closing.get() {
                return;
            }
            match self.open(number).await {
                Ok((opened, took_ns)) => {
                    let away_ns = now_ns() - left_ns;
                    self.hold(number, opened, Held::Again { took_ns, away_ns });
                    return;
                }
                Err(cause) => {
                    self.tally.borrow_mut().refused.count(&cause);
                    self.counters().refused.add(1);
                    retry_after = cause.retry_after();
                    attempt += 1;
                }
            }
        }
    }
}
