//! `/channels?channel=…&channel=…`: several channels of the plain dialect on one connection. Each message names the
//! channel it is about, and a position is that of all of them: `channel=epoch:offset,…`.

use std::sync::Arc;

use crate::hub::{Dialect, Framing, Position, Recovery, Since};
use crate::proto::cursor::{cursor_bytes_max, parse_channel_cursors};
use crate::proto::envelope::Standing;
use crate::proto::http::Request;
use crate::shard::{
    Answer, AnswerTo, Carrier, Core, Dialogue, Exchange, Gathering, ListenSeveral, MayNotListen,
    POSITION_HEADER, Question, RecoveryWish, Reply, Upgrade, Wish, append_parts, pages_reply,
};

use super::channels::upgrade;
use super::listening::{
    NDJSON, SUBPROTOCOL, Way, bodiless, known_tags, knows, nothing_asked, polled, refusal,
    since_text, speaks_subprotocol, token_of,
};
use super::publishing;

/// The longest position over several channels. It comes back in the head of a request, which has a limit too.
const CURSOR_BYTES_MAX: usize = 4096;
/// Data in a poll's answer after which no further channel has any.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(super) fn admit(core: &mut Core, exchange: &Exchange<'_>) -> Result<(), Reply> {
    channels_of(core, exchange.request).map(|_| ())
}

pub(super) fn answer(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    listen(core, exchange).unwrap_or_else(Answer::Reply)
}

fn listen(core: &mut Core, exchange: &Exchange<'_>) -> Result<Answer, Reply> {
    let request = exchange.request;
    let names = channels_of(core, request)?;
    let expire_at_s = match core.may_listen_to(&names, token_of(request).as_deref()) {
        Ok(expire_at_s) => expire_at_s,
        Err(MayNotListen::NeedsKeys(keys)) => {
            let otherwise = refusal(MayNotListen::TokenRefused);
            return Ok(Answer::AwaitKeys(keys, Box::new(otherwise)));
        }
        Err(why) => return Err(refusal(why)),
    };
    let channels = wishes(request, names);
    let listen = |dialect| ListenSeveral {
        dialect,
        channels: channels.clone(),
        expire_at_s,
    };
    let named = listen(Dialect::NamedEnvelope);
    Ok(match Way::of(request) {
        Way::WebSocket => websocket(core, exchange, named)?,
        Way::Events => events(listen(Dialect::NamedVerbatim)),
        Way::Lines => begin(stream(Framing::Chunks, NDJSON), named),
        Way::Poll { wait_s: 0 } => short_poll(core, exchange, channels),
        Way::Poll { wait_s } => begin(Carrier::Poll { wait_s }, named),
        Way::Unknown => Answer::Reply(nothing_asked()),
    })
}

/// The channels of a request, each once.
fn channels_of(core: &Core, request: &Request<'_>) -> Result<Vec<Arc<str>>, Reply> {
    let bad = |line: &str| Reply::text(400, line).closing();
    let most = core.shared.config.client.limits.channel_limit as usize;
    let mut names: Vec<Arc<str>> = Vec::new();
    for name in request.query_params("channel") {
        if name.contains(char::is_control) {
            return Err(bad("channel name malformed"));
        }
        let name = publishing::channel_name(core, &name).map_err(bad)?;
        if names.contains(&name) {
            continue;
        }
        if names.len() == most {
            return Err(bad("more channels than client.channel_limit"));
        }
        names.push(name);
    }
    if names.is_empty() {
        return Err(bad(
            "which channels? /channels?channel=a&channel=b, or /channels/a for one",
        ));
    }
    match cursor_bytes_max(names.iter().map(|name| &**name)) > CURSOR_BYTES_MAX {
        true => Err(bad(
            "too many channels, or their names are too long: positions in all of them have to fit 4096 bytes",
        )),
        false => Ok(names),
    }
}

/// What the client has of each channel: nothing of those its position does not name.
fn wishes(request: &Request<'_>, names: Vec<Arc<str>>) -> Vec<Wish> {
    let text = since_text(request);
    let known = text
        .as_deref()
        .map(|text| parse_channel_cursors(text, names.len()));
    let wishes = names.into_iter().map(|channel| {
        let since = match &known {
            None => None,
            // A position of nobody knows what: nothing follows it.
            Some(None) => Some(Since::from_text("?", 0)),
            Some(Some(cursors)) => {
                let mut cursors = cursors.iter();
                let own = cursors.find(|(name, _)| **name == *channel);
                own.map(|(_, cursor)| Since::from_text(cursor.epoch, cursor.offset))
            }
        };
        Wish { channel, since }
    });
    wishes.collect()
}

fn websocket(core: &Core, exchange: &Exchange<'_>, listen: ListenSeveral) -> Result<Answer, Reply> {
    if !speaks_subprotocol(exchange.request) {
        let line = "a bare WebSocket cannot say of which channel a message is: use Sec-WebSocket-Protocol: longwire.v1";
        return Err(Reply::text(400, line).closing());
    }
    let dialogue = Dialogue::Several(listen);
    Ok(upgrade(core, exchange, Some(SUBPROTOCOL), dialogue))
}

fn events(listen: ListenSeveral) -> Answer {
    let content_type = crate::proto::sse::CONTENT_TYPE;
    begin(stream(Framing::Events, content_type), listen)
}

fn stream(framing: Framing, content_type: &'static str) -> Carrier {
    Carrier::Stream {
        framing,
        content_type,
        preamble: b"",
    }
}

fn begin(carrier: Carrier, listen: ListenSeveral) -> Answer {
    Answer::Upgrade(Upgrade {
        carrier,
        dialogue: Dialogue::Several(listen),
    })
}

/// Answers at once, each channel as a short poll of it alone would be.
fn short_poll(core: &mut Core, exchange: &Exchange<'_>, wishes: Vec<Wish>) -> Answer {
    let interval_s = core.poll_interval_s();
    let known = known_tags(exchange.request);
    let mut gathering = Gathering::new(exchange.session);
    for wish in &wishes {
        let question = Question::Recover(RecoveryWish {
            since: wish.since,
            latest_only: wish.since.is_none(),
            in_pages: true,
        });
        gathering.ask(core, &wish.channel, question);
    }
    let hasher = core.shared.channel_hash.clone();
    gathering.reply(move |answers| {
        let recoveries = answers.into_iter().map(|answer| match answer {
            AnswerTo::Recovery(recovery) => Some(recovery),
            _ => None,
        });
        let Some(mut recoveries) = recoveries.collect::<Option<Vec<Recovery>>>() else {
            return Reply::text(503, "too many channels").with("Retry-After", "5");
        };
        leave_for_the_next(&wishes, &mut recoveries);
        let positions: Vec<Position> = recoveries.iter().map(|known| known.position).collect();
        let tag = entity_tag(&hasher, &positions);
        let page = page(&wishes, &recoveries);
        let is_empty = wishes.iter().all(|wish| wish.since.is_none())
            && recoveries.iter().all(|known| known.publications.is_empty());
        let reply = match (knows(&known, &tag), is_empty) {
            (true, _) => emptied(304, page),
            (false, true) => emptied(204, page),
            _ => page,
        };
        polled(reply, tag, interval_s)
    })
}

/// Keeps an answer within its bound: channels behind it are asked for again from where they are.
fn leave_for_the_next(wishes: &[Wish], recoveries: &mut [Recovery]) {
    let mut bytes = 0;
    for (wish, known) in wishes.iter().zip(recoveries) {
        if bytes > ANSWER_BYTES_MAX
            && known.recovered
            && let Some(since) = wish.since
        {
            known.publications.clear();
            known.position.offset = since.offset;
        }
        let data = known.publications.iter().map(|one| one.data.len());
        bytes += data.sum::<usize>();
    }
}

/// Names what an answer says: the same positions, the same answer.
fn entity_tag(hasher: &std::hash::RandomState, positions: &[Position]) -> String {
    use std::hash::BuildHasher;
    let texts = positions
        .iter()
        .map(|one| (one.epoch.to_string(), one.offset));
    let hash = hasher.hash_one(texts.collect::<Vec<_>>());
    format!("\"{hash:016x}\"")
}

fn page(wishes: &[Wish], recoveries: &[Recovery]) -> Reply {
    let mut parts = Vec::new();
    let answers = wishes.iter().zip(recoveries);
    let standings = answers.map(|(wish, known)| {
        append_parts(&mut parts, Some(&wish.channel), &known.publications);
        Standing {
            channel: &wish.channel,
            epoch: known.position.epoch.to_string(),
            offset: known.position.offset,
            recovered: known.recovered && wish.since.is_some(),
        }
    });
    let standings: Vec<Standing<'_>> = standings.collect();
    pages_reply(&standings, &parts)
}

/// The same answer without its body.
fn emptied(status: u16, page: Reply) -> Reply {
    let position = page
        .headers
        .into_iter()
        .find(|(name, _)| *name == POSITION_HEADER);
    bodiless(status, position.map_or(String::new(), |(_, text)| text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::http::parse_request;

    fn known(query: &str, headers: &str) -> Vec<Option<Since>> {
        let head = format!("GET /channels?{query} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
        let request = parse_request(head.as_bytes()).unwrap();
        let names = request
            .query_params("channel")
            .map(|name| Arc::from(&*name));
        let wishes = wishes(&request, names.collect());
        wishes.into_iter().map(|wish| wish.since).collect()
    }

    #[test]
    fn a_position_is_that_of_the_channels_it_names() {
        let id = "00000000000000ab";
        let at = |offset| Some(Since::from_text(id, offset));
        let both = "channel=a&channel=b";
        assert_eq!(known(both, ""), [None, None]);
        let header = format!("Last-Event-ID: b={id}:7\r\n");
        assert_eq!(known(both, &header), [None, at(7)]);
        let since = format!("{both}&since=a%3D{id}:1,b%3D{id}:2");
        assert_eq!(known(&since, ""), [at(1), at(2)]);
        // What is no position is told as a gap, not taken for none.
        let nowhere = Some(Since::from_text("?", 0));
        let alone = format!("{both}&since={id}:1");
        assert_eq!(known(&alone, ""), [nowhere, nowhere]);
    }
}
