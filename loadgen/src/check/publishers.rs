//! Publishers of a check: each posts one publication after the other and keeps every answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use serde::Deserialize;

use crate::clock::now_ns;
use crate::http::{Answer, HttpConnection, HttpError, Request};
use crate::pace::Schedule;
use crate::payload::Stamp;
use crate::run::Run;

use super::records::{Epochs, Payload, Published};

/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before what was not taken is sent again.
const RETRY_WAIT: Duration = Duration::from_millis(20);

/// What all publishers share.
#[derive(Debug)]
pub struct Publishing {
    /// The run.
    pub run: Arc<Run>,
    /// Names of epochs.
    pub epochs: Arc<Mutex<Epochs>>,
    /// Chooses channels.
    pub seed: u64,
    /// Payload size.
    pub size_bytes: usize,
    /// Whole header lines.
    pub headers: String,
    /// When each publication is due; its lanes are the publishers.
    pub schedule: Schedule,
    /// Ends publishing.
    pub stop: AtomicBool,
}

#[derive(Debug, Deserialize)]
struct Position {
    offset: u64,
    #[serde(default)]
    epoch: String,
}

struct Publisher<'a> {
    publishing: &'a Publishing,
    number: u16,
    connection: Option<HttpConnection>,
    /// By channel, the next publication.
    next: Vec<u32>,
    published: Vec<Published>,
}

/// Publishes until stopped; gives what was sent. An answer that will not change is an error.
pub fn publish(publishing: &Publishing, number: u16) -> Result<Vec<Published>, String> {
    let mut publisher = Publisher {
        publishing,
        number,
        connection: None,
        next: vec![0; publishing.run.channels() as usize],
        published: Vec::new(),
    };
    let mut rng = Rng::with_seed(publishing.seed ^ u64::from(number));
    for n in 0.. {
        let due_ns = publishing.schedule.due_ns(u64::from(number), n);
        let wait_ns = due_ns.saturating_sub(now_ns());
        std::thread::sleep(Duration::from_nanos(wait_ns));
        if publishing.stop.load(Ordering::Relaxed) {
            break;
        }
        publisher.publish(rng.usize(..publisher.next.len()))?;
    }
    Ok(publisher.published)
}

impl Publisher<'_> {
    /// Publishes the channel's next publication, again and again until the server may have it.
    fn publish(&mut self, channel: usize) -> Result<(), String> {
        let payload = Payload {
            publisher: self.number,
            sequence: self.next[channel],
        };
        // A channel's number came from a u32.
        let channel_number = channel as u32;
        while !self.publishing.stop.load(Ordering::Relaxed) {
            let acknowledged = match self.post(channel_number, payload) {
                Ok(answer) if answer.status == 200 => Some(self.place(&answer)?),
                Ok(answer) if answer.status == 503 => {
                    std::thread::sleep(RETRY_WAIT);
                    continue;
                }
                Ok(answer) => {
                    let body = String::from_utf8_lossy(&answer.body);
                    return Err(format!(
                        "publishing was answered with {}: {body}",
                        answer.status
                    ));
                }
                Err(HttpError::NotSent(_)) => {
                    std::thread::sleep(RETRY_WAIT);
                    continue;
                }
                Err(HttpError::NoAnswer(_)) => None,
            };
            self.next[channel] += 1;
            self.published.push(Published {
                channel: channel_number,
                payload,
                acknowledged,
            });
            break;
        }
        Ok(())
    }

    fn post(&mut self, channel: u32, payload: Payload) -> Result<Answer, HttpError> {
        let run = &self.publishing.run;
        let stamp = Stamp {
            run: run.check.unwrap_or_default().run,
            channel,
            publisher: payload.publisher,
            sequence: payload.sequence,
            intended_ns: now_ns(),
        };
        let mut connection = match self.connection.take().filter(|open| !open.is_stale()) {
            Some(open) => open,
            None => {
                HttpConnection::open(run.address, ANSWER_TIMEOUT).map_err(HttpError::NotSent)?
            }
        };
        let answer = connection.request(&Request {
            method: "POST",
            path: &run.publish_path(channel),
            host: &run.target.authority(),
            headers: &self.publishing.headers,
            body: Some(&stamp.encode(self.publishing.size_bytes)),
        })?;
        if answer.keep_alive {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    fn place(&self, answer: &Answer) -> Result<(u32, u64), String> {
        let position: Position = serde_json::from_slice(&answer.body)
            .map_err(|error| format!("publishing was answered with no offset: {error}"))?;
        let epochs = &self.publishing.epochs;
        let mut epochs = epochs.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((epochs.number(&position.epoch), position.offset))
    }
}
