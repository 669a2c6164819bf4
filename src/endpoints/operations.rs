//! `/metrics`, `/health`, `/ready`.

use bytes::Bytes;

use crate::metrics;
use crate::shard::{Answer, Core, Exchange, Reply};

pub(super) fn metrics(core: &mut Core, _: &Exchange<'_>) -> Answer {
    let dropped = (core.shared.log_lines_dropped)();
    let mut text = metrics::render(&core.shared.metrics, &core.shared.memory, dropped);
    core.shared.backend.render_metrics(&mut text);
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

/// The server wants traffic.
pub(super) fn ready(core: &mut Core, _: &Exchange<'_>) -> Answer {
    Answer::Reply(match core.is_ready() {
        true => Reply::text(200, "ready"),
        false => Reply::text(503, "draining").with("Retry-After", "5"),
    })
}
