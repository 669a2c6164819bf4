//! `/metrics`, `/health`, `/ready`, `/api/drain`.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::metrics;
use crate::shard::{Answer, Core, Exchange, Reply};

pub(super) fn metrics(core: &mut Core, _: &Exchange<'_>) -> Answer {
    let dropped = (core.shared.log_lines_dropped)();
    let text = metrics::render(&core.shared.metrics, &core.shared.memory, dropped);
    Answer::Reply(Reply {
        content_type: metrics::CONTENT_TYPE,
        body: Bytes::from(text),
        ..Reply::text(200, "")
    })
}

/// The process lives and this shard answers.
pub(super) fn health(_: &mut Core, _: &Exchange<'_>) -> Answer {
    Answer::Reply(Reply::text(200, "ok"))
}

/// Stops the server as SIGTERM does: within a second it begins to drain.
pub(super) fn drain(core: &mut Core, _: &Exchange<'_>) -> Answer {
    core.shared.is_stop_asked.store(true, Ordering::Relaxed);
    Answer::Reply(Reply::json(202, "{\"result\":{}}".to_owned()))
}

/// The server wants traffic.
pub(super) fn ready(core: &mut Core, _: &Exchange<'_>) -> Answer {
    Answer::Reply(match core.is_ready() {
        true => Reply::text(200, "ready"),
        false => Reply::text(503, "draining"),
    })
}
