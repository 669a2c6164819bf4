//! Turns of shards that share a core, in every interleaving of a few switches that the memory model allows.

use loom::sync::atomic;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Notify};
use loom::thread;

#[path = "../src/shard/baton.rs"]
mod baton;

use baton::Baton;

/// Each of three shards queues once, works when it is its turn, and passes on. A shard that is not at the
/// front when it has queued goes on only when it is told. All get their turn, one at a time.
#[test]
fn nobody_waits_for_ever_and_nobody_works_beside_another() {
    const SHARDS: usize = 3;
    let mut builder = loom::model::Builder::new();
    // With three shards there are too many interleavings to try those with more switches in a row.
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let baton = Arc::new(Baton::new(SHARDS));
        let at_work = Arc::new(AtomicUsize::new(0));
        let told: Arc<Vec<Notify>> = Arc::new((0..SHARDS).map(|_| Notify::new()).collect());
        let shards: Vec<_> = (0..SHARDS - 1)
            .map(|shard| {
                let (baton, at_work, told) = (baton.clone(), at_work.clone(), told.clone());
                thread::spawn(move || take_turn(&baton, shard, &at_work, &told))
            })
            .collect();
        take_turn(&baton, SHARDS - 1, &at_work, &told);
        for shard in shards {
            shard.join().unwrap();
        }
    });
}

fn take_turn(baton: &Baton, shard: usize, at_work: &AtomicUsize, told: &[Notify]) {
    let ticket = baton.queue(shard as u16);
    while !baton.is_turn(ticket) {
        // Loom fails if nobody ever tells it.
        told[shard].wait();
    }
    assert_eq!(at_work.fetch_add(1, Ordering::Relaxed), 0, "two at work");
    at_work.fetch_sub(1, Ordering::Relaxed);
    if let Some(next) = baton.pass_on(ticket) {
        told[usize::from(next)].notify();
    }
}
