//! The plain data of a shard: timer wheel, subscriber lists, fan-out batches, histories.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use longwire::hub::{
    Backlog, Batch, Encoding, EncodingsInUse, Key, Kind, OwnedChannels, OwnedLimits, Position,
    Publication, Since, StreamOptions, Wheel,
};
use longwire::proto::frame::{Opcode, encode_frame};

const SESSIONS: u32 = 20_000;

/// One second of a shard's life: everybody's deadline comes once in 30 s and is set again.
fn wheel(c: &mut Criterion) {
    let mut wheel = Wheel::default();
    for slot in 0..SESSIONS {
        wheel.schedule(slot, slot % 30);
    }
    let mut now_s = 0;
    let mut group = c.benchmark_group("wheel");
    group.throughput(Throughput::Elements(u64::from(SESSIONS / 30)));
    group.bench_function("turn one second with 20,000 sessions", |b| {
        b.iter(|| {
            while let Some(slot) = wheel.pop_due(now_s) {
                wheel.schedule(slot, now_s + 30);
            }
            now_s += 1;
        });
    });
    group.finish();
}

/// What a pass costs besides the sends.
fn pass(c: &mut Criterion) {
    let mut in_use = EncodingsInUse::default();
    in_use.add(Encoding::PLAIN);
    let mut batch = Batch::new(Backlog::Kept, SESSIONS as usize);
    let mut group = c.benchmark_group("pass");
    group.throughput(Throughput::Elements(u64::from(SESSIONS)));
    group.bench_function("over 20,000", |b| {
        b.iter(|| {
            batch.append(100, 0, &in_use, |_, out| {
                out.extend_from_slice(&[b'x'; 100])
            });
            batch.begin_pass();
            let frames = batch.frames();
            while let Some(visit) = batch.visit() {
                black_box(frames.since(visit.had, Encoding::PLAIN).len());
            }
        });
    });
    group.finish();
}

/// What a publication costs before the first send: its frame, and the batch made ready.
fn fan_out_encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan-out encode");
    let mut in_use = EncodingsInUse::default();
    in_use.add(Encoding::PLAIN);
    for (publications, bytes) in [(1, 100), (10, 100), (30, 100), (1, 10_000)] {
        let payload = vec![b'x'; bytes];
        group.throughput(Throughput::Elements(publications));
        group.bench_function(format!("{publications} of {bytes} B"), |b| {
            b.iter(|| {
                let mut batch = Batch::new(Backlog::Kept, 1);
                for _ in 0..publications {
                    batch.append(bytes as u32, 0, &in_use, |_, out| {
                        encode_frame(out, Opcode::Text, black_box(&payload));
                    });
                }
                black_box(batch.frames().since(0, Encoding::PLAIN).len())
            });
        });
    }
    group.finish();
}

/// What a publication costs at the owner of its channel, and what a client that comes back does.
fn history(c: &mut Criterion) {
    const CHANNELS: usize = 10_000;
    const OPTIONS: StreamOptions = StreamOptions {
        size: 100,
        ttl_s: 300,
        meta_ttl_s: 300,
    };
    let limits = OwnedLimits {
        channels: CHANNELS,
        history_bytes: 64 << 20,
    };
    let mut owned = OwnedChannels::new(limits, 1);
    let names = (0..CHANNELS).map(|i| format!("channel {i}").into());
    let keys: Vec<_> = names.filter_map(|name| owned.open(&name, 0).ok()).collect();
    let data = Bytes::from(vec![b'x'; 100]);
    let commit = |owned: &mut OwnedChannels, key: Key| {
        let mut publication = Publication::new(Kind::Text, data.clone(), 0);
        owned.commit(key, &mut publication, 116, &OPTIONS, 0)
    };
    let mut group = c.benchmark_group("history");
    let mut turn = keys.iter().cycle();
    group.bench_function("commit, 10,000 channels, memory at its bound", |b| {
        b.iter(|| turn.next().map(|key| commit(&mut owned, *key)));
    });
    group.bench_function("commit and recover 10, one channel", |b| {
        b.iter(|| {
            let Position { epoch, offset } = commit(&mut owned, keys[0])?;
            let since = Since {
                epoch: Some(epoch),
                offset: offset.saturating_sub(10),
            };
            let recovery = owned.get(keys[0])?.stream(0).recover(Some(since), 300);
            Some(black_box(recovery).recovered)
        });
    });
    group.finish();
}

criterion_group!(benches, wheel, pass, fan_out_encode, history);
criterion_main!(benches);
