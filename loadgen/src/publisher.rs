//! One publisher: a thread with a keep-alive HTTP connection that posts one message after the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;

use crate::clock::now_ns;
use crate::http::{Answer, HttpConnection, HttpError, Request};
use crate::latency::Latency;
use crate::pace::Schedule;
use crate::payload::Stamp;
use crate::rival::{self, Door, Program};
use crate::run::Run;

/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that takes nothing for so long is given up.
const GIVE_UP_NS: u64 = 15_000_000_000;
/// Longest Retry-After that is honoured in full.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// Bounds of the random wait before a retry where the server names none.
const RETRY_MS: std::ops::Range<u64> = 5..25;
/// Sleeps are cut into pieces of this length, to notice a stop.
const SLEEP_PIECE: Duration = Duration::from_millis(50);

/// What all publishers share.
#[derive(Debug)]
pub struct Publishing {
    /// The run they belong to.
    pub run: Arc<Run>,
    /// When publishing starts, in CLOCK_MONOTONIC nanoseconds.
    pub start_ns: u64,
    /// This run's number.
    pub run_number: u32,
    /// Channels; messages go to one after the other.
    pub channels: u32,
    /// Payload size.
    pub size_bytes: usize,
    /// How to publish.
    pub door: Door,
    /// When each message is due; its lanes are the publishers. `None`: as fast as answers come.
    pub schedule: Option<Schedule>,
    /// No message starts after this (CLOCK_MONOTONIC).
    pub deadline_ns: Option<u64>,
    /// Messages answered for, so far.
    pub acknowledged: AtomicU64,
    /// Messages refused so far, each retried.
    pub refused: AtomicU64,
    /// Ends publishing early.
    pub stop: AtomicBool,
}

/// What a publisher did.
#[derive(Debug, Default)]
pub struct PublisherTally {
    /// Its number.
    pub publisher: u16,
    /// Per channel, sequence numbers used: acknowledged or unknown.
    pub issued: Vec<u32>,
    /// Messages without an answer: (channel, sequence).
    pub unknown: Vec<(u32, u32)>,
    /// From when a message was meant to go out until it was acknowledged.
    pub latency: Latency,
    /// When the last answer came, in CLOCK_MONOTONIC nanoseconds; the start if none has.
    pub last_answer_ns: u64,
    /// Acknowledged messages whose offset is not above the one before on the same channel.
    pub offset_regressions: u64,
    /// Why it ended early.
    pub failure: Option<String>,
}

struct Publisher<'a> {
    publishing: &'a Publishing,
    /// Messages to publish.
    budget: u64,
    connection: Option<HttpConnection>,
    program: Option<Program>,
    /// Per channel, the epoch (as a string) and offset last acknowledged.
    positions: Vec<Option<Position>>,
    tally: PublisherTally,
}

/// The answer to a publication. Other fields are none of our business.
#[derive(Debug, Deserialize)]
struct Position {
    offset: u64,
    #[serde(default)]
    epoch: String,
}

/// Publishes `budget` messages, or until the deadline.
pub fn publish(publishing: &Publishing, publisher: u16, budget: u64) -> PublisherTally {
    let channels = publishing.channels as usize;
    let mut publisher = Publisher {
        publishing,
        budget,
        connection: None,
        program: None,
        positions: std::iter::repeat_with(|| None).take(channels).collect(),
        tally: PublisherTally {
            publisher,
            issued: vec![0; channels],
            last_answer_ns: now_ns(),
            ..PublisherTally::default()
        },
    };
    if let Err(failure) = publisher.run() {
        publisher.tally.failure = Some(failure);
    }
    publisher.tally
}

/// What became of one attempt.
enum Attempt {
    /// Published; where, if the server said so.
    Acknowledged(Option<Position>),
    /// Not sequenced; to be retried after this long.
    Refused(Duration),
    /// The request did not go out.
    NotSent(String),
    /// It went out and was not answered.
    Unknown,
}

impl Publisher<'_> {
    fn run(&mut self) -> Result<(), String> {
        let lane = u64::from(self.tally.publisher);
        for n in 0..self.budget {
            let due_ns = self
                .publishing
                .schedule
                .map(|schedule| schedule.due_ns(lane, n));
            if !self.may_start(due_ns) {
                break;
            }
            let intended_ns = due_ns.unwrap_or_else(now_ns);
            self.sleep_until(intended_ns);
            if self.is_stopped() {
                break;
            }
            let channel = (lane + n) % u64::from(self.publishing.channels);
            // A remainder of a u32 fits one.
            self.publish_one(channel as u32, intended_ns)?;
        }
        Ok(())
    }

    fn may_start(&self, due_ns: Option<u64>) -> bool {
        let start_ns = due_ns.unwrap_or(0).max(now_ns());
        self.publishing
            .deadline_ns
            .is_none_or(|deadline_ns| start_ns < deadline_ns)
    }

    /// Publishes one message, again and again until the server has sequenced it or its fate is unknown.
    fn publish_one(&mut self, channel: u32, intended_ns: u64) -> Result<(), String> {
        let stamp = Stamp {
            run: self.publishing.run_number,
            channel,
            publisher: self.tally.publisher,
            sequence: self.tally.issued[channel as usize],
            intended_ns,
        };
        let payload = stamp.encode(self.publishing.size_bytes);
        loop {
            let attempt = self.attempt(channel, &payload)?;
            let wait = match attempt {
                Attempt::Acknowledged(position) => {
                    self.acknowledge(channel, position, intended_ns);
                    return Ok(());
                }
                Attempt::Unknown => {
                    self.tally.issued[channel as usize] += 1;
                    self.tally.unknown.push((channel, stamp.sequence));
                    return self.check_patience("no answer");
                }
                Attempt::Refused(wait) => {
                    self.tally.last_answer_ns = now_ns();
                    self.publishing.refused.fetch_add(1, Ordering::Relaxed);
                    wait
                }
                Attempt::NotSent(error) => {
                    self.check_patience(&error)?;
                    retry_wait()
                }
            };
            self.sleep_until(now_ns() + wait.as_nanos() as u64);
            if self.is_stopped() {
                return Ok(());
            }
        }
    }

    fn attempt(&mut self, channel: u32, payload: &[u8]) -> Result<Attempt, String> {
        let publishing = self.publishing;
        let run = &publishing.run;
        match &publishing.door {
            Door::Longwire { headers } => {
                let request = Request {
                    method: "POST",
                    path: &run.publish_path(channel),
                    host: &run.target.authority(),
                    headers,
                    body: Some(payload),
                };
                self.post(run.address, &request)?
                    .map_or_else(Ok, |answer| read_answer(&answer))
            }
            Door::Http {
                address,
                target,
                headers,
                body,
            } => {
                let body = rival::fill(body, channel, &String::from_utf8_lossy(payload));
                let request = Request {
                    method: "POST",
                    path: &target.subscribe_path(channel),
                    host: &target.authority(),
                    headers,
                    body: Some(body.as_bytes()),
                };
                self.post(*address, &request)?
                    .map_or_else(Ok, |answer| read_rivals_answer(&answer))
            }
            Door::Command(command) => self.run_program(command, channel, payload),
        }
    }

    /// Posts; the inner error is an attempt without an answer.
    fn post(
        &mut self,
        address: SocketAddr,
        request: &Request<'_>,
    ) -> Result<Result<Answer, Attempt>, String> {
        let mut connection = match self.connection.take().filter(|open| !open.is_stale()) {
            Some(open) => open,
            None => match HttpConnection::open(address, ANSWER_TIMEOUT) {
                Ok(opened) => opened,
                Err(error) => return Ok(Err(Attempt::NotSent(error.to_string()))),
            },
        };
        let answer = match connection.request(request) {
            Ok(answer) => answer,
            Err(HttpError::NotSent(error)) => return Ok(Err(Attempt::NotSent(error.to_string()))),
            Err(HttpError::NoAnswer(_)) => return Ok(Err(Attempt::Unknown)),
        };
        if answer.keep_alive {
            self.connection = Some(connection);
        }
        Ok(Ok(answer))
    }

    fn run_program(
        &mut self,
        command: &str,
        channel: u32,
        payload: &[u8],
    ) -> Result<Attempt, String> {
        let failed = |error| format!("{command}: {error}");
        if self.program.is_none() {
            self.program = Some(Program::start(command).map_err(failed)?);
        }
        if let Some(program) = &mut self.program {
            let data = String::from_utf8_lossy(payload);
            program.publish(channel, &data).map_err(failed)?;
        }
        Ok(Attempt::Acknowledged(None))
    }

    fn check_patience(&self, reason: &str) -> Result<(), String> {
        if now_ns() - self.tally.last_answer_ns > GIVE_UP_NS {
            return Err(format!("the server takes no message: {reason}"));
        }
        Ok(())
    }

    fn acknowledge(&mut self, channel: u32, position: Option<Position>, intended_ns: u64) {
        self.tally.last_answer_ns = now_ns();
        self.tally
            .latency
            .record(self.tally.last_answer_ns - intended_ns);
        self.tally.issued[channel as usize] += 1;
        self.publishing.acknowledged.fetch_add(1, Ordering::Relaxed);
        let Some(position) = position else {
            return;
        };
        let before = self.positions[channel as usize].replace(position);
        let after = &self.positions[channel as usize];
        if let (Some(before), Some(after)) = (before, after)
            && (after.epoch != before.epoch || after.offset <= before.offset)
        {
            self.tally.offset_regressions += 1;
        }
    }

    fn sleep_until(&self, due_ns: u64) {
        while !self.is_stopped() {
            let left = Duration::from_nanos(due_ns.saturating_sub(now_ns()));
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(SLEEP_PIECE));
        }
    }

    fn is_stopped(&self) -> bool {
        self.publishing.stop.load(Ordering::Relaxed)
    }
}

/// Tells an acknowledgement from a refusal; any other answer ends the publisher, since it will not change.
fn read_answer(answer: &Answer) -> Result<Attempt, String> {
    match answer.status {
        200 => serde_json::from_slice(&answer.body)
            .map(|position| Attempt::Acknowledged(Some(position)))
            .map_err(|error| format!("publishing was answered with no offset: {error}")),
        503 => Ok(refused(answer)),
        _ => Err(final_answer(answer)),
    }
}

/// The same for another server, of which nothing but its status is known.
fn read_rivals_answer(answer: &Answer) -> Result<Attempt, String> {
    match answer.status {
        200..=299 => Ok(Attempt::Acknowledged(None)),
        429 | 503 => Ok(refused(answer)),
        _ => Err(final_answer(answer)),
    }
}

fn refused(answer: &Answer) -> Attempt {
    let named = answer.retry_after.filter(|wait| !wait.is_zero());
    Attempt::Refused(named.map_or_else(retry_wait, |wait| wait.min(RETRY_AFTER_MAX)))
}

fn final_answer(answer: &Answer) -> String {
    let body = String::from_utf8_lossy(&answer.body);
    let body: String = body.trim().chars().take(200).collect();
    let status = answer.status;
    format!("publishing was answered with {status}: {body}")
}

fn retry_wait() -> Duration {
    Duration::from_millis(fastrand::u64(RETRY_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<u64>, body: &str) -> Answer {
        let retry_after = retry_after.map(Duration::from_secs);
        Answer {
            status,
            retry_after,
            keep_alive: true,
            body: body.into(),
        }
    }

    #[test]
    fn an_acknowledgement_has_an_offset() {
        let read = read_answer(&answer(200, None, r#"{"offset":7,"epoch":"x","more":1}"#));
        assert!(matches!(
            read,
            Ok(Attempt::Acknowledged(Some(Position { offset: 7, .. })))
        ));
        assert!(read_answer(&answer(200, None, "ok")).is_err());
    }

    #[test]
    fn a_refusal_is_waited_out_as_long_as_the_server_says() {
        let wait = |retry_after| match read_answer(&answer(503, retry_after, "")) {
            Ok(Attempt::Refused(wait)) => wait,
            _ => panic!("503 is a refusal"),
        };
        assert_eq!(wait(Some(1)), Duration::from_secs(1));
        assert_eq!(wait(Some(3600)), RETRY_AFTER_MAX);
        for retry_after in [None, Some(0)] {
            assert!(RETRY_MS.contains(&(wait(retry_after).as_millis() as u64)));
        }
    }

    #[test]
    fn of_another_server_only_the_status_counts() {
        let read = |status| read_rivals_answer(&answer(status, None, "whatever"));
        assert!(matches!(read(201), Ok(Attempt::Acknowledged(None))));
        assert!(matches!(read(429), Ok(Attempt::Refused(_))));
        assert!(read(404).is_err());
    }

    #[test]
    fn other_answers_are_final() {
        let error = read_answer(&answer(403, None, "forbidden\n"))
            .err()
            .unwrap();
        assert_eq!(error, "publishing was answered with 403: forbidden");
    }
}
