//! Connections that send messages and check that each comes back as it was.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use longwire::net::GiveWay;
use longwire::proto::frame::{Opcode, encode_masked_frame};
use monoio::time::sleep;

use crate::clock::now_ns;
use crate::counters::Cause;
use crate::pace::Schedule;
use crate::run::Echo;

use super::{SLICE, START_POLL, STOP_POLL, Worker};

/// What one connection has under way.
#[derive(Debug, Default)]
pub struct Lane {
    /// Messages sent.
    sent: u64,
    /// Messages that came back.
    echoed: u64,
    /// Since when each message counts that is out and not back.
    under_way: VecDeque<u64>,
}

/// All that echoing connections of a thread share.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: Vec<Lane>,
    payload: Vec<u8>,
    frame: Vec<u8>,
    /// Messages due until then have been tried; later ones are the pacer's.
    paced_until_ns: u64,
}

/// Who sends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    /// It is due.
    Pacer,
    /// There was no place for it until now.
    Place,
}

impl Lanes {
    /// For `count` connections.
    pub fn new(count: usize) -> Self {
        Self {
            lanes: std::iter::repeat_with(Lane::default).take(count).collect(),
            ..Self::default()
        }
    }

    /// Puts the next message of a connection into `frame`, if it may go out now.
    fn next(
        &mut self,
        echo: &Echo,
        schedule: Option<Schedule>,
        (number, index): (usize, u64),
        sender: Sender,
        now_ns: u64,
    ) -> bool {
        let lane = &mut self.lanes[number];
        if lane.under_way.len() >= echo.in_flight {
            return false;
        }
        let since_ns = match schedule.map(|schedule| schedule.due_ns(index, lane.sent)) {
            None => now_ns,
            Some(due_ns) if sender == Sender::Pacer && due_ns <= now_ns => now_ns,
            Some(due_ns) if due_ns <= self.paced_until_ns => due_ns,
            Some(_) => return false,
        };
        lane.under_way.push_back(since_ns);
        fill(&mut self.payload, echo.size_bytes, index, lane.sent);
        lane.sent += 1;
        self.frame.clear();
        let mask = fastrand::u32(..).to_ne_bytes();
        encode_masked_frame(&mut self.frame, Opcode::Binary, mask, &self.payload);
        true
    }

    /// Takes a message that came back; returns since when it counts.
    fn check(
        &mut self,
        echo: &Echo,
        (number, index): (usize, u64),
        payload: &[u8],
    ) -> Result<u64, Cause> {
        let lane = &mut self.lanes[number];
        let since_ns = lane.under_way.pop_front().ok_or(Cause::WrongEcho)?;
        fill(&mut self.payload, echo.size_bytes, index, lane.echoed);
        lane.echoed += 1;
        if self.payload == payload {
            Ok(since_ns)
        } else {
            Err(Cause::WrongEcho)
        }
    }
}

impl Worker {
    /// Sends as long as the run says so.
    pub(super) async fn drive_echo(self: Rc<Self>, echo: Echo, give_way: GiveWay) {
        while !self.run.is_under_way(now_ns()) {
            if self.run.is_stopped() {
                return;
            }
            sleep(START_POLL).await;
        }
        match self.run.echo_schedule() {
            Some(schedule) => self.pace_echo(&echo, &schedule, &give_way).await,
            None => self.start_echo(&echo, &give_way).await,
        }
    }

    /// Each connection sends its first messages; every echo brings the next.
    async fn start_echo(self: &Rc<Self>, echo: &Echo, give_way: &GiveWay) {
        for number in 0..self.share.connections {
            self.send_echoes(echo, number, Sender::Pacer);
            if number % SLICE == SLICE - 1 {
                give_way.turn().await;
            }
        }
    }

    /// Every connection in turn sends when its message is due.
    async fn pace_echo(self: &Rc<Self>, echo: &Echo, schedule: &Schedule, give_way: &GiveWay) {
        let connections = self.share.connections as u64;
        let due_ns = |event: u64| {
            let index = self.share.first as u64 + event % connections;
            schedule.due_ns(index, event / connections)
        };
        let mut event = 0;
        while self.run.is_under_way(now_ns()) {
            let mut in_slice = 0;
            let now_ns = now_ns();
            while due_ns(event) <= now_ns && in_slice < SLICE {
                // A remainder of a usize fits one.
                self.send_echoes(echo, (event % connections) as usize, Sender::Pacer);
                event += 1;
                in_slice += 1;
            }
            if in_slice == SLICE {
                give_way.turn().await;
            } else {
                self.lanes.borrow_mut().paced_until_ns = now_ns;
                let wait_ns = due_ns(event).saturating_sub(now_ns);
                sleep(Duration::from_nanos(wait_ns).min(STOP_POLL)).await;
            }
        }
    }

    /// Sends whatever this connection may send now.
    fn send_echoes(self: &Rc<Self>, echo: &Echo, number: usize, sender: Sender) {
        let schedule = self.run.echo_schedule();
        let index = (self.share.first + number) as u64;
        let mut sender = sender;
        loop {
            let now_ns = now_ns();
            if !self.run.is_under_way(now_ns) || !self.slots.borrow().is_open(number) {
                return;
            }
            let mut lanes = self.lanes.borrow_mut();
            if !lanes.next(echo, schedule, (number, index), sender, now_ns) {
                return;
            }
            self.counters().sent.add(1);
            if self.send(number, &lanes.frame).is_err() {
                // The connection's task finds out why.
                return;
            }
            sender = Sender::Place;
        }
    }

    /// Takes a message that came back, and sends what there is a place for now.
    pub(super) fn receive_echo(
        self: &Rc<Self>,
        echo: &Echo,
        number: usize,
        (opcode, payload): (Opcode, &[u8]),
        received_ns: u64,
    ) -> Result<(), Cause> {
        if opcode != Opcode::Binary {
            return Err(Cause::WrongEcho);
        }
        let index = (self.share.first + number) as u64;
        let since_ns = self
            .lanes
            .borrow_mut()
            .check(echo, (number, index), payload)?;
        let took_ns = received_ns.saturating_sub(since_ns);
        self.tally.borrow_mut().delivery_latency.record(took_ns);
        self.send_echoes(echo, number, Sender::Place);
        Ok(())
    }
}

/// The payload of a message: bytes that no other message of the run has.
fn fill(payload: &mut Vec<u8>, size_bytes: usize, index: u64, sequence: u64) {
    payload.clear();
    let mut state = index << 40 ^ sequence;
    while payload.len() < size_bytes {
        // SplitMix64: every state gives other bytes.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        payload.extend_from_slice(&(mixed ^ mixed >> 31).to_le_bytes());
    }
    payload.truncate(size_bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: Echo = Echo {
        size_bytes: 20,
        in_flight: 2,
        rate: None,
        connections: 1,
    };

    fn payload(sequence: u64) -> Vec<u8> {
        let mut payload = Vec::new();
        fill(&mut payload, ECHO.size_bytes, 7, sequence);
        payload
    }

    #[test]
    fn messages_differ_and_have_the_size_asked_for() {
        assert_eq!(payload(0).len(), 20);
        assert_ne!(payload(0), payload(1));
        let mut other = Vec::new();
        fill(&mut other, 20, 8, 0);
        assert_ne!(payload(0), other);
        fill(&mut other, 0, 8, 0);
        assert!(other.is_empty());
    }

    #[test]
    fn only_the_same_bytes_in_the_same_order_are_an_echo() {
        let lanes = || {
            let mut lanes = Lanes::new(1);
            for _ in 0..2 {
                assert!(lanes.next(&ECHO, None, (0, 7), Sender::Pacer, 5));
            }
            assert!(
                !lanes.next(&ECHO, None, (0, 7), Sender::Pacer, 6),
                "no third in flight"
            );
            lanes
        };
        let mut right = lanes();
        assert_eq!(right.check(&ECHO, (0, 7), &payload(0)), Ok(5));
        assert!(right.next(&ECHO, None, (0, 7), Sender::Place, 9));
        assert_eq!(right.check(&ECHO, (0, 7), &payload(1)), Ok(5));
        assert_eq!(right.check(&ECHO, (0, 7), &payload(2)), Ok(9));
        assert_eq!(
            right.check(&ECHO, (0, 7), &payload(3)),
            Err(Cause::WrongEcho),
            "never sent"
        );
        assert_eq!(
            lanes().check(&ECHO, (0, 7), &payload(1)),
            Err(Cause::WrongEcho)
        );
        assert_eq!(
            lanes().check(&ECHO, (0, 7), &payload(0)[..19]),
            Err(Cause::WrongEcho)
        );
        assert_eq!(lanes().check(&ECHO, (0, 7), &[]), Err(Cause::WrongEcho));
    }

    #[test]
    fn a_message_that_found_no_place_counts_from_when_it_was_due() {
        let echo = Echo {
            in_flight: 1,
            ..ECHO
        };
        let schedule = Some(Schedule {
            start_ns: 100,
            rate: 1e9 / 50.0,
            lanes: 8,
        });
        // The 7th of eight lanes: due at 450, 850, 1250.
        let mut lanes = Lanes::new(1);
        assert!(!lanes.next(&echo, schedule, (0, 7), Sender::Pacer, 449));
        assert!(lanes.next(&echo, schedule, (0, 7), Sender::Pacer, 460));
        assert!(!lanes.next(&echo, schedule, (0, 7), Sender::Pacer, 850));
        lanes.paced_until_ns = 900;
        assert_eq!(lanes.check(&ECHO, (0, 7), &payload(0)), Ok(460));
        assert!(lanes.next(&echo, schedule, (0, 7), Sender::Place, 2000));
        assert_eq!(lanes.check(&ECHO, (0, 7), &payload(1)), Ok(850));
        assert!(
            !lanes.next(&echo, schedule, (0, 7), Sender::Place, 2000),
            "the pacer's"
        );
    }
}
