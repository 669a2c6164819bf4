//! What a delivery costs the server when each is a send of its own.
//!
//! The reader spins. A send to a reader that sleeps wakes it, which costs the sender a fifth more and makes room
//! for the next sleep; a sender that is a little faster never lets the reader get there. So with a sleeping reader
//! a difference of 2 % comes out as one of 20 %, in favour of whoever happened to be ahead.

use crate::child::Server;
use crate::client::floor_status;
use crate::options::Options;
use crate::report::{Goal, Table};

use super::{NO_PINGS_S, fan_out, fan_out_floor, in_turn, pings_every, presume_quiet};

const CONNECTIONS: u32 = 10_000;
/// Of Longwire's CPU time per delivery to the floor's.
const RATIO_MAX: f64 = 1.05;
/// A rate is held if so much of it was delivered; the last pass ends behind the last message.
const HELD_SHARE: f64 = 0.95;

pub fn measure(options: &Options) -> Result<Table, String> {
    let (connections, rate) = (options.connections_or(CONNECTIONS), options.rate);
    let threads = options.threads_or(1);
    let settings = [
        pings_every(NO_PINGS_S),
        vec!["fanout.coalesce=false".to_owned()],
    ];
    let floor = Server::floor(&options.server_cores, threads)?;
    let longwire = Server::longwire(&options.server_cores, threads, &settings.concat())?;
    let load = format!(
        "--connections {connections} --rate {rate} --duration {} --spin",
        options.seconds
    );
    let about = format!("{connections} subscribers, {rate} messages/s of 100 B, coalescing off");
    let mut table = Table::new("delivery", about);
    for round in 0..options.rounds {
        let cores = &options.loadgen_cores;
        let ((bare, waits), ours) = in_turn(
            options,
            round,
            || {
                let before = floor_status(floor.address)?.waits;
                let found = fan_out_floor(cores, &floor, &load)?;
                Ok((found, floor_status(floor.address)?.waits - before))
            },
            || fan_out(cores, &longwire, &load),
        )?;
        for (name, found) in [("the floor", &bare), ("Longwire", &ours)] {
            let (wanted, made) = (rate * f64::from(connections), found.deliveries_per_s);
            table.presume(made >= HELD_SHARE * wanted, || {
                format!("{name} made {made:.0} of {wanted:.0} deliveries/s; see --rate")
            });
        }
        let (bare_us, ours_us) = (bare.cpu_per_delivery_us()?, ours.cpu_per_delivery_us()?);
        table.add("floor, CPU per delivery", "us", bare_us);
        table.add("Longwire, CPU per delivery", "us", ours_us);
        table.judge("ratio", "", ours_us / bare_us, Goal::AtMost(RATIO_MAX));
        table.add("floor, deliveries/s", "", bare.deliveries_per_s);
        table.add("Longwire, deliveries/s", "", ours.deliveries_per_s);
        table.add("floor, one pass", "ms", bare.pass_ms()?);
        table.add("Longwire, one pass", "ms", ours.pass_ms()?);
        table.add("floor, waits for room", "", waits as f64);
        table.add("Longwire, refused", "", ours.refused as f64);
    }
    presume_quiet(&mut table, &[&floor, &longwire])?;
    Ok(table)
}
