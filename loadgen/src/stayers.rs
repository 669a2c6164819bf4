//! What is published to connections that stay while others go and come back.

use std::sync::Arc;

use crate::Failure;
use crate::args::{CommonArgs, StayersArgs};
use crate::clock::now_ns;
use crate::crew::Crew;
use crate::payload::PAYLOAD_BYTES_MIN;
use crate::publications::{Load, Publications, Published};
use crate::report::Stayers;
use crate::rival::Door;
use crate::run::{Check, Run};
use crate::setup::prepare;
use crate::worker::Tally;

/// One is enough for what stays; its rate is what is asked for. The other publishes what those that are away
/// miss, if that is to be counted.
const PUBLISHERS: usize = 2;
/// The number of the other.
const MISSED_PUBLISHER: u16 = 1;
/// Once publishing has ended: so long without a delivery, and no more are awaited.
const SETTLE_NS: u64 = 1_000_000_000;

/// Plans a run whose connections subscribe, and check what they get as long as they stay.
pub fn plan(common: &CommonArgs, args: &StayersArgs) -> Result<Run, String> {
    let url = common.channel_url();
    if args.size < PAYLOAD_BYTES_MIN {
        return Err(format!(
            "--size {}: a payload holds who sent what and when, which takes {PAYLOAD_BYTES_MIN} bytes",
            args.size
        ));
    }
    common.centrifuge.check(args.channels)?;
    if args.channels > 1 && !common.names_channel() {
        return Err(format!(
            "{} channels need a URL with {{channel}} in it, not {url}",
            args.channels
        ));
    }
    let mut run = prepare(common, url)?;
    run.check = Some(Check {
        run: fastrand::u32(..),
        channels: args.channels,
        publishers: PUBLISHERS,
    });
    Ok(run)
}

/// Starts to publish.
pub fn publish(run: &Arc<Run>, args: &StayersArgs) -> Result<Publications, Failure> {
    let load = Load {
        size_bytes: args.size,
        rate: Some(args.rate),
        door: Door::longwire(args.api_key.as_deref()),
    };
    Publications::start(load.publishing(run, None), [u64::MAX])
}

/// Publishes `missed` messages on each channel, as fast as answers come, and waits for the last one.
pub fn publish_missed(
    run: &Arc<Run>,
    crew: &Crew,
    args: &StayersArgs,
    missed: u32,
) -> Result<Published, Failure> {
    let load = Load {
        size_bytes: args.size,
        rate: None,
        door: Door::longwire(args.api_key.as_deref()),
    };
    let count = u64::from(missed) * u64::from(args.channels);
    let publishing = load.publishing(run, None);
    let publications = Publications::start_from(MISSED_PUBLISHER, publishing, [count])?;
    crew.watch(|_| publications.are_done());
    publications.stop()
}

/// Stops publishing and waits until no more arrives.
pub fn settle(publications: Publications, crew: &Crew) -> Result<Published, Failure> {
    let published = publications.stop()?;
    let mut latest = (0, now_ns());
    crew.watch(|totals| {
        if totals.messages != latest.0 {
            latest = (totals.messages, now_ns());
        }
        now_ns() - latest.1 >= SETTLE_NS
    });
    Ok(published)
}

/// What those that stayed found.
pub fn report(published: &Published, tally: &Tally) -> Stayers {
    let gone = tally.alike.iter().filter(|alike| !alike.subscriber.live);
    Stayers {
        stayed: tally.alike.iter().map(|alike| alike.count).sum(),
        lost_connections: gone.map(|alike| alike.count).sum(),
        publications: published.acknowledged(),
        refused: published.refused(),
        unknown: published.unknown(),
        calm_latency: tally.delivery_latency.summary(),
        delivery_latency: tally.disturbed_latency.summary(),
        verdict: published.judge(tally),
        misdelivered_messages: tally.misdelivered_messages,
        failures: published.failures(),
    }
}
