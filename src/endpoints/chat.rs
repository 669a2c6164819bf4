//! `/chat`: a WebSocket to the channel `chat`, where clients may publish unless configured otherwise.

use std::sync::Arc;

use crate::shard::{Answer, Core, Exchange, Reply};

use super::{access, channels};

pub(super) fn admit(core: &mut Core, exchange: &Exchange<'_>) -> Result<(), Reply> {
    access::same_origin(core, exchange.request)
}

pub(super) fn answer(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    channels::listen(core, exchange, Arc::from("chat"))
}
