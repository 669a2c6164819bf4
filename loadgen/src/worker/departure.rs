//! Connections that go on purpose and come back as well-behaved clients do.

use std::rc::Rc;

use longwire::net::GiveWay;
use monoio::time::sleep;

use crate::clock::now_ns;
use crate::run::Departures;

use super::{Held, SLICE, START_POLL, Worker};

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
            None => now_ns(),
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
