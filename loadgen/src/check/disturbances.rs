//! What is done to clients and server during a check, and when. The same seed gives the same list.

use fastrand::Rng;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Resets the connection of this subscriber.
    KillClient(usize),
    /// Lets this subscriber read nothing for a while.
    PauseReader(usize),
    /// Resets the connections of all subscribers.
    Storm,
    /// Kills the server with SIGKILL, and starts it again.
    KillServer,
    /// Stops the server with SIGSTOP for a while.
    FreezeServer,
    /// Holds one of the server's cores for a while, whichever takes the connection that asks.
    HoldCore,
}

/// How many of each there are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Clients killed.
    pub client_kills: u32,
    /// Readers paused.
    pub slow_readers: u32,
    /// Storms of all clients.
    pub storms: u32,
    /// Servers killed.
    pub server_kills: u32,
    /// Servers stopped for a while.
    pub freezes: u32,
    /// Cores held for a while.
    pub core_holds: u32,
}

/// When each is due, in milliseconds from the start, in order. What is done to the server is spread evenly,
/// with a random moment in each part: a kill that follows another at once would find nobody there.
pub fn schedule(
    seed: u64,
    counts: &Counts,
    subscribers: usize,
    duration_ms: u64,
) -> Vec<(u64, Disturbance)> {
    let mut rng = Rng::with_seed(seed);
    let mut due = Vec::new();
    for _ in 0..counts.client_kills {
        let who = rng.usize(..subscribers);
        due.push((rng.u64(..duration_ms), Disturbance::KillClient(who)));
    }
    for _ in 0..counts.slow_readers {
        let who = rng.usize(..subscribers);
        due.push((rng.u64(..duration_ms), Disturbance::PauseReader(who)));
    }
    let mut of_server = Vec::new();
    for (count, disturbance) in [
        (counts.storms, Disturbance::Storm),
        (counts.server_kills, Disturbance::KillServer),
        (counts.freezes, Disturbance::FreezeServer),
        (counts.core_holds, Disturbance::HoldCore),
    ] {
        of_server.extend(std::iter::repeat_n(disturbance, count as usize));
    }
    rng.shuffle(&mut of_server);
    let part_ms = duration_ms / of_server.len().max(1) as u64;
    for (part, disturbance) in (0..).zip(of_server) {
        let within_ms = rng.u64(..part_ms.max(2) / 2);
        due.push((part * part_ms + within_ms, disturbance));
    }
    due.sort_by_key(|(due_ms, _)| *due_ms);
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: Counts = Counts {
        client_kills: 20,
        slow_readers: 3,
        storms: 2,
        server_kills: 5,
        freezes: 1,
        core_holds: 2,
    };

    #[test]
    fn a_seed_says_it_all() {
        let first = schedule(7, &COUNTS, 10, 10_000);
        assert_eq!(first, schedule(7, &COUNTS, 10, 10_000));
        assert_ne!(first, schedule(8, &COUNTS, 10, 10_000));
        assert_eq!(first.len(), 33);
        assert!(first.is_sorted_by_key(|(due_ms, _)| *due_ms));
        assert!(first.iter().all(|(due_ms, _)| *due_ms < 10_000));
    }

    #[test]
    fn the_server_gets_time_between_two() {
        let kills = Counts {
            server_kills: 10,
            ..Counts::default()
        };
        let due = schedule(1, &kills, 1, 10_000);
        for pair in due.windows(2) {
            assert!(pair[1].0 - pair[0].0 >= 500, "{pair:?}");
        }
    }
}
