//! `/echo`: a WebSocket that returns what it is sent, for conformance suites and benchmarks.

use crate::shard::{Answer, Core, Dialogue, Exchange, Purpose, Reply};

use super::channels;

pub(super) fn admit(core: &mut Core, _: &Exchange<'_>) -> Result<(), Reply> {
    if !core.shared.config.echo {
        return Err(Reply::text(404, "not served: set echo = true").closing());
    }
    Ok(())
}

pub(super) fn answer(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    let dialogue = Dialogue::Plain {
        purpose: Purpose::Echo,
        listen: None,
    };
    channels::upgrade(core, exchange, None, dialogue)
}
