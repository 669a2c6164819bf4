//! `/api/…`: the server API, with Centrifugo's requests and answers.
//!
//! | file | what |
//! |---|---|
//! | `command` | one command: who calls it, and what it waits for |
//! | `request` | requests read: which member is wrong, and payloads |
//! | `error` | errors, in both ways of saying them |
//! | `publications` | publish, broadcast |
//! | `channels` | presence, presence_stats, history, history_remove, channels |
//! | `connections` | subscribe, unsubscribe, disconnect, refresh, revoke |
//! | `node` | info, rpc, drain |
//! | `several` | many commands in one request: batch, and by lines |

mod channels;
mod command;
mod connections;
mod error;
mod node;
mod publications;
mod request;
mod several;
#[cfg(test)]
mod tests;

use crate::shard::{Answer, Core, Exchange, Reply};

use super::access;
use command::{Asked, Caller, Outcome};
use error::{ApiError, ErrorMode};

const PREFIX: &str = "/api/";

/// A method of the server API.
struct Method {
    name: &'static str,
    /// Reads the request and asks the shards.
    ask: fn(&mut Caller<'_>, &str) -> Result<Asked, ApiError>,
}

impl Method {
    const fn new(
        name: &'static str,
        ask: fn(&mut Caller<'_>, &str) -> Result<Asked, ApiError>,
    ) -> Self {
        Self { name, ask }
    }

    fn named(name: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.name == name)
    }
}

const METHODS: &[Method] = &[
    Method::new("publish", publications::publish),
    Method::new("broadcast", publications::broadcast),
    Method::new("subscribe", connections::subscribe),
    Method::new("unsubscribe", connections::unsubscribe),
    Method::new("disconnect", connections::disconnect),
    Method::new("refresh", connections::refresh),
    Method::new("revoke", connections::revoke),
    Method::new("presence", channels::presence),
    Method::new("presence_stats", channels::presence_stats),
    Method::new("history", channels::history),
    Method::new("history_remove", channels::history_remove),
    Method::new("channels", channels::channels),
    Method::new("info", node::info),
    Method::new("rpc", node::rpc),
    Method::new("drain", node::drain),
];

/// Many commands in one request. What each may do is asked for each.
const BATCH: Method = Method::new("batch", several::batch);

/// The key is right, there is such a method, and the key is good for it.
pub(super) fn admit(core: &mut Core, exchange: &Exchange<'_>) -> Result<(), Reply> {
    let right = access::right(&core.shared, exchange)?;
    let Some(method) = method_of(exchange) else {
        return Err(Reply::text(404, "no such method").closing());
    };
    if method.name == BATCH.name || right.allows_method(method.name) {
        return Ok(());
    }
    let mode = ErrorMode::of(exchange.request);
    let reply = ApiError::PERMISSION_DENIED.into_reply(mode);
    Err(Reply {
        status: 403,
        ..reply
    }
    .closing())
}

/// `POST /api/{method}`.
pub(super) fn answer(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    let mode = ErrorMode::of(exchange.request);
    let Some(method) = method_of(exchange) else {
        return Answer::Reply(Reply::text(404, "no such method"));
    };
    let asked = |caller: &mut Caller<'_>| {
        let body = request::text(exchange.body)?;
        (method.ask)(caller, body)
    };
    with_caller(core, exchange, |mut caller| match asked(&mut caller) {
        Ok(asked) => caller.gathering.reply(move |answers| {
            let outcome = asked.outcome(&mut answers.into_iter());
            reply(method, outcome, mode)
        }),
        Err(error) => Answer::Reply(error.into_reply(mode)),
    })
}

fn reply(method: &Method, outcome: Outcome, mode: ErrorMode) -> Reply {
    match outcome {
        // Its replies have results of their own.
        Ok(result) if method.name == BATCH.name => Reply::json(200, result),
        Ok(result) => Reply::json(200, format!("{{\"result\":{result}}}")),
        Err(error) => error.into_reply(mode),
    }
}

/// The key is right; what it is good for is asked for each command.
pub(super) fn admit_lines(core: &mut Core, exchange: &Exchange<'_>) -> Result<(), Reply> {
    access::right(&core.shared, exchange).map(drop)
}

/// `POST /api`: commands by lines, as `{"method": …, "params": …}`.
pub(super) fn answer_lines(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    let mode = ErrorMode::of(exchange.request);
    with_caller(core, exchange, |mut caller| {
        match request::text(exchange.body).and_then(|body| several::lines(&mut caller, body)) {
            Ok(asked) => caller.gathering.reply(move |answers| {
                let lines = asked.into_iter();
                let mut answers = answers.into_iter();
                Reply::json(200, several::answer_lines(lines, &mut answers))
            }),
            Err(error) => Answer::Reply(error.into_reply(mode)),
        }
    })
}

fn with_caller(
    core: &mut Core,
    exchange: &Exchange<'_>,
    work: impl FnOnce(Caller<'_>) -> Answer,
) -> Answer {
    let shared = std::sync::Arc::clone(&core.shared);
    match access::right(&shared, exchange) {
        Ok(right) => work(Caller::new(core, exchange.session, right)),
        Err(reply) => Answer::Reply(reply),
    }
}

fn method_of(exchange: &Exchange<'_>) -> Option<&'static Method> {
    let name = exchange.request.path.strip_prefix(PREFIX)?;
    match name == BATCH.name {
        true => Some(&BATCH),
        false => Method::named(name),
    }
}
