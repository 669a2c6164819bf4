//! Traffic between two shards: what a message costs, and what a wake costs.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use longwire::net::{build_runtime, pin_to_core};
use longwire::shard::{Doorbell, Message, Ports, connect};

fn two_shards() -> (Ports, Ports) {
    let doorbells = [(); 2].map(|()| Arc::new(Doorbell::open().expect("an eventfd")));
    let (ports, _main) = connect(&doorbells, 1, 4096, 1 << 20);
    let mut ports = ports.into_iter();
    (ports.next().expect("two"), ports.next().expect("two"))
}

/// Push and pop on one thread: the queue, the credits, the look at the flag.
fn push_and_pop(c: &mut Criterion) {
    let (mut here, there) = two_shards();
    let mut group = c.benchmark_group("inbox");
    group.throughput(Throughput::Elements(1));
    group.bench_function("send and take a message, receiver awake", |b| {
        b.iter(|| {
            here.links[1].send_control(Message::Stop);
            there.inbox.pop()
        });
    });
    group.finish();
}

/// A message there and one back, both shards asleep in between, each on a core of its own if there
/// are two.
fn round_trip(c: &mut Criterion) {
    let mut group = c.benchmark_group("inbox and doorbell");
    group.bench_function("round trip between sleeping shards", |b| {
        b.iter_custom(|rounds| {
            let (here, there) = two_shards();
            let echo = thread::spawn(move || play(there, 1, rounds, false));
            let began = thread::spawn(move || play(here, 0, rounds, true)).join();
            echo.join().expect("the other shard ended");
            began.expect("this shard ended").elapsed()
        });
    });
    group.finish();
}

/// Returns every message it gets; the one that serves sends the first.
fn play(mut ports: Ports, me: usize, rounds: u64, serves: bool) -> Instant {
    pin_to_core(me);
    let mut runtime = build_runtime().expect("io_uring is available");
    runtime.block_on(async {
        let waiter = ports.inbox.waiter().expect("a descriptor");
        let began = Instant::now();
        if serves {
            ports.links[1 - me].send_control(Message::Stop);
        }
        let mut received = 0;
        while received < rounds {
            waiter.wait(|| !ports.inbox.is_empty()).await;
            while ports.inbox.pop().is_some() {
                received += 1;
                if !(serves && received == rounds) {
                    ports.links[1 - me].send_control(Message::Stop);
                }
            }
        }
        began
    })
}

criterion_group!(benches, push_and_pop, round_trip);
criterion_main!(benches);
