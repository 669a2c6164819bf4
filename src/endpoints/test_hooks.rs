//! `/test/hold`, which only tests build in: what happens to the others while one core does nothing?

use std::time::Duration;

use crate::shard::{Answer, Core, Exchange, Reply};

use super::{Pages, Path, Route, WRITE, anyone};

/// `POST /test/hold?ms=…`
pub(super) const HOLD: Route = Route {
    path: Path::Is("/test/hold"),
    methods: WRITE,
    pages: Pages::Allowed,
    admit: anyone,
    answer: hold,
};

/// The longest hold.
const HOLD_MS_MAX: u64 = 60_000;

/// Holds the core of this connection for `ms` milliseconds: it does nothing at all meanwhile.
fn hold(_: &mut Core, exchange: &Exchange<'_>) -> Answer {
    let asked = exchange.request.query_param("ms");
    let Some(ms) = asked.and_then(|ms| ms.parse::<u64>().ok()) else {
        return Answer::Reply(Reply::text(400, "ms missing"));
    };
    std::thread::sleep(Duration::from_millis(ms.min(HOLD_MS_MAX)));
    Answer::Reply(Reply::text(200, "held"))
}
