//! An HTTP connection's bytes in: requests, their answers, and the way from HTTP to WebSocket.

use crate::hub::{Key, Position, Refused};
use crate::metrics::CloseReason;
use crate::proto::http::{
    CONTINUE, ConnectionHeader, HttpError, Response, parse_request, write_response,
};

use super::http::{Body, ConnectionPlan, HttpStage, Phase, Progress};
use super::session::Stage;
use super::upgrade::{Heard, Upgrade};
use super::{Answer, Core, Exchange, Headers, Reply};

/// Bytes of requests being received that one shard holds, over all its connections.
const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;

impl Core {
    pub(super) fn receive_http(&mut self, key: Key, bytes: &[u8]) {
        let Some(mut http) = self.take_http(key) else {
            return;
        };
        let before = http.held_bytes();
        let begins = http.is_idle() && http.served > 0;
        let received = http.receive(bytes);
        self.count_request_bytes(before, http.held_bytes());
        if begins {
            // The next request of a kept connection has as long as the first.
            http.deadline_s = self.now_s() + self.limits.ready_timeout_s;
        }
        match received {
            Ok(()) if self.request_bytes > REQUEST_BYTES_MAX => {
                let error = HttpError {
                    status: 503,
                    reason: "too many requests are being received",
                };
                self.refuse_request(key, http, error);
            }
            Ok(()) => self.run_http(key, http),
            Err(error) => self.refuse_request(key, http, error),
        }
    }

    /// Goes on with a connection whose answers are all out.
    pub(super) fn resume_http(&mut self, key: Key) {
        if let Some(http) = self.take_http(key) {
            self.run_http(key, http);
        }
        self.watch(key);
    }

    /// Goes on with a connection's requests as far as its bytes and its answers allow.
    fn run_http(&mut self, key: Key, mut http: Box<HttpStage>) {
        loop {
            // It may have ended with the last answer, or be full of it: the next request waits then.
            let takes_more = self
                .sessions
                .get(key)
                .is_some_and(|session| session.outbox.is_none());
            if !takes_more {
                return self.put_http(key, http);
            }
            let before = http.held_bytes();
            let progress = http.advance(&self.limits.head, self.shared.config.http.body_bytes);
            self.count_request_bytes(before, http.held_bytes());
            let step = match progress {
                Ok(Progress::More) => {
                    if !http.is_idle() {
                        self.acknowledge(key);
                    }
                    return self.put_http(key, http);
                }
                Ok(Progress::Proxied(Ok(client))) => match self.proxied(key, &mut http, client) {
                    Ok(()) => Ok(()),
                    Err(reply) => {
                        self.put_http(key, http);
                        return self.reply_and_finish(key, &reply, CloseReason::Refused);
                    }
                },
                Ok(Progress::Proxied(Err(_))) => {
                    self.put_http(key, http);
                    return self.end_unproxied(key);
                }
                Ok(Progress::Head(head)) => self.admit_request(key, &mut http, head),
                Ok(Progress::Request(body)) => {
                    match self.answer_request(key, &mut http, body, None) {
                        Ok(after) if after.is_over() => {
                            return self.after_answer(key, http, after);
                        }
                        Ok(_) => Ok(()),
                        Err(error) => Err(Refusal::Error(error)),
                    }
                }
                Err(error) => Err(Refusal::Error(error)),
            };
            match step {
                Ok(()) => {}
                Err(Refusal::Error(error)) => return self.refuse_request(key, http, error),
                Err(Refusal::Reply(reply, connection)) => {
                    self.put_http(key, http);
                    self.write_reply(key, &reply, &Headers::new(), false, connection);
                    return self.finish(key, CloseReason::HttpDone);
                }
            }
        }
    }

    /// Lets the peer know that the first parts of its request have come.
    fn acknowledge(&self, key: Key) {
        let session = self.sessions.get(key);
        if let Some(socket) = session.and_then(|session| session.socket.as_ref()) {
            socket.acknowledge();
        }
    }

    /// A head is complete: may the request go on to its body?
    fn admit_request(
        &mut self,
        key: Key,
        http: &mut HttpStage,
        head: Box<[u8]>,
    ) -> Result<(), Refusal> {
        let request = parse_request(&head)?;
        let last = ConnectionPlan {
            keep_alive: false,
            ..ConnectionPlan::of(&request)
        };
        self.identify(key, http, &request)
            .map_err(|reply| Refusal::Reply(reply, last))?;
        let exchange = Exchange {
            request: &request,
            body: &[],
            client: http.client,
            session: key,
        };
        http.answer_headers = (self.shared.handler.admit)(self, &exchange)
            .map_err(|reply| Refusal::Reply(reply, last))?;
        let (length, expects) = (request.body, request.expect_continue);
        let now_s = self.now_s();
        http.begin_body(head, length, self.shared.config.http.body_bytes, now_s)?;
        if let Phase::Body(body) = &http.phase {
            let look_s = body.next_look_s(&self.limits.body_pace, now_s);
            http.deadline_s = look_s.unwrap_or(now_s);
        }
        if expects && http.input.is_empty() {
            self.send(key, CONTINUE);
        }
        Ok(())
    }

    /// Answers a request that waited for keys. If they have not helped, it is answered with `otherwise`.
    pub(super) fn answer_again(
        &mut self,
        key: Key,
        mut http: Box<HttpStage>,
        request: Body,
        otherwise: Reply,
    ) {
        match self.answer_request(key, &mut http, request, Some(otherwise)) {
            Ok(after) => self.go_on(key, http, after),
            Err(error) => self.refuse_request(key, http, error),
        }
    }

    /// Answers a request. It may wait for keys only if `without_keys` does not say what to answer without them.
    fn answer_request(
        &mut self,
        key: Key,
        http: &mut HttpStage,
        body: Body,
        without_keys: Option<Reply>,
    ) -> Result<After, HttpError> {
        let request = body.request()?;
        let exchange = Exchange {
            request: &request,
            body: &body.bytes,
            client: http.client,
            session: key,
        };
        let mut connection = ConnectionPlan::of(&request);
        connection.keep_alive &= self.may_keep_alive(http);
        match (self.shared.handler.answer)(self, &exchange) {
            Answer::Reply(reply) => {
                if http.input.is_empty() {
                    self.fan_out_alone();
                }
                Ok(self.http_reply(key, http, &reply, connection))
            }
            Answer::AwaitPublished(reply) => {
                http.deadline_s = self.now_s() + self.limits.body_pace.timeout_s;
                http.phase = Phase::AwaitPublished { reply, connection };
                Ok(After::Wait)
            }
            Answer::Await(awaiting) => {
                http.deadline_s = self.now_s() + self.limits.body_pace.timeout_s;
                http.phase = Phase::Await {
                    awaiting: Box::new(awaiting),
                    connection,
                };
                Ok(After::Wait)
            }
            Answer::AwaitKeys(keys, otherwise) => Ok(match without_keys {
                Some(reply) => self.http_reply(key, http, &reply, connection),
                None => {
                    let wanted = (keys, *otherwise);
                    self.await_listener_keys(key, http, body, wanted, connection)
                }
            }),
            Answer::Upgrade(upgrade) => {
                http.kept_headers = self.kept_headers(&request, &upgrade);
                Ok(self.begin_upgrade(key, http, upgrade, connection))
            }
        }
    }

    fn may_keep_alive(&self, http: &HttpStage) -> bool {
        let served = http.served + 1;
        !self.is_draining && !http.is_last && served < self.shared.config.http.keepalive_requests
    }

    /// Sends an answer. The connection then waits for its next request, or ends.
    pub(super) fn http_reply(
        &mut self,
        key: Key,
        http: &mut HttpStage,
        reply: &Reply,
        connection: ConnectionPlan,
    ) -> After {
        let keep_alive = connection.keep_alive && !reply.close;
        let headers = std::mem::take(&mut http.answer_headers);
        self.write_reply(key, reply, &headers, keep_alive, connection);
        if http.is_proxy {
            // The next request may be another client's.
            self.release_place(key);
        }
        self.give_up_device(key);
        http.served += 1;
        http.phase = Phase::Head;
        // A request that has begun to come already has no more time than the first.
        let timeout_s = match http.input.is_empty() {
            true => self.limits.keepalive_timeout_s,
            false => self.limits.ready_timeout_s,
        };
        http.deadline_s = self.now_s() + timeout_s;
        if keep_alive {
            After::Next
        } else {
            After::Finish
        }
    }

    fn write_reply(
        &mut self,
        key: Key,
        reply: &Reply,
        further_headers: &Headers,
        keep_alive: bool,
        connection: ConnectionPlan,
    ) {
        let header = match (keep_alive, connection.is_http10) {
            (false, _) => ConnectionHeader::Close,
            (true, true) => ConnectionHeader::KeepAlive,
            (true, false) => ConnectionHeader::Omit,
        };
        let headers: Vec<(&str, &str)> = reply
            .headers
            .iter()
            .chain(further_headers)
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let response = Response {
            status: reply.status,
            content_type: reply.content_type,
            headers: &headers,
            body: &reply.body,
        };
        let mut out = Vec::with_capacity(256 + reply.body.len());
        write_response(&mut out, &response, header, connection.head_only);
        self.send(key, out);
    }

    /// Answers, then ends the connection.
    pub(super) fn reply_and_finish(&mut self, key: Key, reply: &Reply, reason: CloseReason) {
        self.write_reply(key, reply, &Headers::new(), false, ConnectionPlan::LAST);
        self.finish(key, reason);
    }

    /// A request that cannot be read any further.
    fn refuse_request(&mut self, key: Key, mut http: Box<HttpStage>, error: HttpError) {
        let mut reply = Reply::from(error);
        reply.headers.append(&mut http.answer_headers);
        self.put_http(key, http);
        self.reply_and_finish(key, &reply, CloseReason::HttpError);
    }

    fn after_answer(&mut self, key: Key, http: Box<HttpStage>, after: After) {
        match after {
            After::Next | After::Wait => self.put_http(key, http),
            After::Finish => {
                self.put_http(key, http);
                self.finish(key, CloseReason::HttpDone);
            }
            After::Upgrade(upgrade, heard) => self.open(key, *http, *upgrade, heard),
        }
    }

    /// The owner said what became of the publication a request waits for.
    pub(super) fn answer_published(&mut self, key: Key, outcome: Result<Position, Refused>) {
        let Some(mut http) = self.take_http(key) else {
            return;
        };
        let Phase::AwaitPublished { reply, connection } = http.phase else {
            return self.put_http(key, http);
        };
        http.phase = Phase::Head;
        let after = self.http_reply(key, &mut http, &reply(outcome), connection);
        self.go_on(key, http, after);
    }

    /// After an answer that had to be waited for: the next request may be there already.
    pub(super) fn go_on(&mut self, key: Key, http: Box<HttpStage>, after: After) {
        match after {
            After::Next => self.run_http(key, http),
            after => self.after_answer(key, http, after),
        }
        self.watch(key);
    }

    pub(super) fn take_http(&mut self, key: Key) -> Option<Box<HttpStage>> {
        let stage = &mut self.sessions.get_mut(key)?.stage;
        match std::mem::replace(stage, Stage::Busy) {
            Stage::Http(http) => Some(http),
            other => {
                *stage = other;
                None
            }
        }
    }

    pub(super) fn put_http(&mut self, key: Key, http: Box<HttpStage>) {
        match self.sessions.get_mut(key) {
            Some(session) if matches!(session.stage, Stage::Busy) => {
                session.stage = Stage::Http(http);
                self.reschedule(key);
            }
            // It ended while its request was answered.
            _ => self.count_request_bytes(http.held_bytes(), 0),
        }
    }
}

/// What follows an answer.
pub(super) enum After {
    /// The next request.
    Next,
    /// An answer of another shard.
    Wait,
    /// The end of the connection.
    Finish,
    /// Something else than requests and answers.
    Upgrade(Box<Upgrade>, Option<Heard>),
}

impl After {
    /// True if no further request is to be looked at now.
    pub fn is_over(&self) -> bool {
        !matches!(self, Self::Next)
    }
}

/// Why a request got no further than its head.
enum Refusal {
    /// It is malformed or over a limit.
    Error(HttpError),
    /// An endpoint would not have it.
    Reply(Reply, ConnectionPlan),
}

impl From<HttpError> for Refusal {
    fn from(error: HttpError) -> Self {
        Self::Error(error)
    }
}

impl From<HttpError> for Reply {
    fn from(error: HttpError) -> Self {
        let mut reply = Self::text(error.status, error.reason).closing();
        for (name, value) in error.headers() {
            reply = reply.with(name, *value);
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::Shutdown;

    use rustix::net::sockopt::{set_tcp_quickack, tcp_quickack};

    use super::*;
    use crate::config::Config;
    use crate::net::Socket;
    use crate::shard::session::Session;
    use crate::shard::testing::{Bed, Client, upgrade, with_cores};

    #[test]
    fn requests_of_a_client_that_is_gone_are_dropped() {
        with_cores(2, Config::default(), |bed| {
            let (own, other) = (bed.channel_of(0), bed.channel_of(1));
            let mut client = bed.connect(0);
            let publish = format!(
                "POST /channels/{other} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
            );
            let requests = publish + &upgrade(&format!("/channels/{own}"));
            bed.say(&mut client, requests.as_bytes());
            let session = bed.cores[0].sessions.get(client.key);
            assert!(session.is_some_and(Session::is_paused));
            client.reset();
            bed.pass_messages();
            // No channel is kept open for it.
            assert_eq!(bed.cores[0].sessions.len(), 0);
            assert_eq!(bed.cores[0].local.len(), 0);
            assert_eq!(bed.cores[0].metrics.request_body_bytes.get(), 0);
        });
    }

    #[test]
    fn the_parts_of_a_request_are_acknowledged() {
        with_cores(1, Config::default(), |bed| {
            let parts: [&[u8]; 3] = [
                b"POST /channels/a HTTP",
                b"/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n",
                b"x",
            ];
            let mut client = bed.connect(0);
            for part in parts {
                set_tcp_quickack(socket(bed, &client), false).unwrap();
                bed.say(&mut client, part);
                assert!(
                    tcp_quickack(socket(bed, &client)).unwrap(),
                    "{}",
                    String::from_utf8_lossy(part)
                );
            }
            set_tcp_quickack(socket(bed, &client), false).unwrap();
            bed.say(&mut client, b"y");
            bed.pass_messages();
            assert_eq!(client.response().0, 200);
            assert!(!tcp_quickack(socket(bed, &client)).unwrap());
        });
    }

    fn socket<'a>(bed: &'a Bed, client: &Client) -> &'a Socket {
        let session = bed.cores[client.shard].sessions.get(client.key);
        session.unwrap().socket.as_ref().unwrap()
    }

    #[test]
    fn answers_are_given_as_they_are_taken_and_to_the_last_one() {
        const ASKED: usize = 20;
        with_cores(1, Config::default(), |bed| {
            let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
            let last = b"GET / HTTP/1.0\r\n\r\n";
            let mut client = bed.connect(0);
            bed.say(&mut client, &request.repeat(ASKED - 1));
            client.socket.write_all(last).unwrap();
            // Half closed, as some clients do with their last request.
            client.socket.shutdown(Shutdown::Write).unwrap();
            bed.receive(&client);
            let (shard, key) = (client.shard, client.key);
            let reader = std::thread::spawn(move || {
                let mut answers = Vec::new();
                client.socket.read_to_end(&mut answers).unwrap();
                answers
            });
            while bed.cores[shard].sessions.get(key).is_some() {
                bed.flush_all(shard);
                bed.receive_at(shard, key);
            }
            let answers = reader.join().unwrap();
            let page = include_bytes!("../console/index.html");
            assert!(answers.len() > ASKED * page.len());
            assert!(answers.ends_with(page));
            assert_eq!(bed.cores[0].metrics.outbox_bytes.get(), 0);
        });
    }

    #[test]
    fn a_head_request_that_is_refused_gets_a_head_only() {
        with_cores(1, Config::default(), |bed| {
            let mut client = bed.connect(0);
            bed.say(
                &mut client,
                b"HEAD /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
            );
            assert!(client.head().starts_with("HTTP/1.1 404 "));
            let mut rest = Vec::new();
            client.socket.read_to_end(&mut rest).unwrap();
            assert!(rest.is_empty());
        });
    }

    #[test]
    fn an_idle_connection_keeps_no_buffer() {
        with_cores(1, Config::default(), |bed| {
            let mut client = bed.connect(0);
            let mut request = b"POST /channels/a HTTP/1.1\r\nHost: localhost\r\n".to_vec();
            request.extend_from_slice(b"Content-Length: 20000\r\n\r\n");
            request.resize(request.len() + 20_000, b'x');
            bed.say(&mut client, &request);
            assert!(client.head().starts_with("HTTP/1.1 200 "));
            let Some(Stage::Http(http)) = bed.cores[0].stage(client.key) else {
                panic!("the connection is kept");
            };
            assert!(http.is_idle());
            assert_eq!(http.input.capacity(), 0);
        });
    }
}
