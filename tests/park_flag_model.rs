//! The sleep-and-wake handshake between shards, in every interleaving the memory model allows.

use loom::sync::Arc;
use loom::sync::atomic;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

#[path = "../src/shard/park_flag.rs"]
mod park_flag;

use park_flag::ParkFlag;

/// Two senders push one message each and ring if they must; the owner parks, looks once more, and
/// would sleep. Whenever it sleeps on a queue that gets a message, somebody must have rung.
#[test]
fn no_message_is_slept_through() {
    loom::model(|| {
        let flag = Arc::new(ParkFlag::default());
        let queue = Arc::new(AtomicUsize::new(0));
        let rings = Arc::new(AtomicUsize::new(0));
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let (flag, queue, rings) = (flag.clone(), queue.clone(), rings.clone());
                thread::spawn(move || {
                    queue.fetch_add(1, Ordering::Relaxed);
                    if flag.must_ring() {
                        rings.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        flag.park();
        let seen = queue.load(Ordering::Relaxed);
        for sender in senders {
            sender.join().unwrap();
        }
        flag.unpark();
        let rung = rings.load(Ordering::Relaxed);
        assert!(seen > 0 || rung == 1, "slept through {} messages", 2 - seen);
        assert!(rung <= 1, "rung {rung} times for one sleep");
    });
}
