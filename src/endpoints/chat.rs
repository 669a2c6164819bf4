//! `/chat`: a WebSocket to the channel `chat`, where clients may publish unless configured otherwise.

use std::sync::Arc;

use crate::shard::{Answer, Core, Exchange};

use super::channels;

pub(super) fn answer(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    channels::listen(core, exchange, Arc::from("chat"))
}
