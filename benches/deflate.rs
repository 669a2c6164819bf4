//! What permessage-deflate costs, beside another implementation of DEFLATE in Rust, and what its
//! states take. `cargo bench --bench deflate`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use longwire::proto::deflate::{Deflater, Inflater, Inflation, SlidingWindow};
use longwire::proto::frame::{Opcode, encode_compressed_frame};
use longwire::proto::message::{MessageLimits, MessageReader, Role};
use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, compress, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

const SIZES: [(&str, usize); 3] = [("100_B", 100), ("1_KiB", 1024), ("16_KiB", 16_384)];

const LIMITS: MessageLimits = MessageLimits {
    message_bytes: 65_536,
    frames_per_message: 128,
};

struct CountingAllocator;

static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, allocated: *mut u8, layout: Layout) {
        HELD_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.dealloc(allocated, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// A list of trades.
fn json(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut json = String::from("[");
    while json.len() < len {
        let user = random.choice(["alice", "bob", "carol", "dave", "erin"]);
        let side = random.choice(["buy", "sell"]);
        let (id, price, time) = (random.u32(..), random.u32(..100_000), random.u32(..));
        let _ = write!(
            json,
            "{{\"id\":{id},\"user\":{user:?},\"price\":{price},\"side\":{side:?},\"ts\":{time}}},"
        );
    }
    json.truncate(len);
    json.into_bytes()
}

fn compressed(payload: &[u8]) -> Vec<u8> {
    let mut deflater = Deflater::default();
    let compressed = deflater.compress(payload, 15, &[]).map(Vec::from);
    compressed.unwrap_or_default()
}

fn states(_: &mut Criterion) {
    let held_by = |make: &dyn Fn() -> Box<dyn std::any::Any>| {
        let before = HELD_BYTES.load(Ordering::Relaxed);
        let made = make();
        let held = HELD_BYTES.load(Ordering::Relaxed) - before;
        drop(made);
        held
    };
    for bits in [9, 12, 15] {
        let deflater = held_by(&|| {
            let mut deflater = Deflater::default();
            deflater.compress(b"", bits, &[]);
            Box::new(deflater)
        });
        println!("deflate state, {bits} bits: {deflater} B");
    }
    let theirs = held_by(&|| Box::new(CompressorOxide::new(0)));
    println!("deflate state of miniz_oxide: {theirs} B");
    let stream = frame(&json(1000));
    let inflater = held_by(&|| {
        let (mut inflater, mut stream) = (Inflater::default(), stream.clone());
        read(&mut inflater, None, &mut stream);
        Box::new(inflater)
    });
    println!("inflater after 1 KB: {inflater} B");
    let theirs = held_by(&|| Box::new(DecompressorOxide::new()));
    println!("inflate state of miniz_oxide, without window: {theirs} B");
}

fn deflate(c: &mut Criterion) {
    let mut group = c.benchmark_group("deflate");
    for (name, len) in SIZES {
        let payload = json(len);
        let size = compressed(&payload).len();
        println!("{name} of JSON deflates to {size} B");
        group.throughput(Throughput::Bytes(len as u64));
        let mut deflater = Deflater::default();
        group.bench_function(format!("zlib_rs/{name}"), |b| {
            b.iter(|| {
                deflater
                    .compress(black_box(&payload), 15, &[])
                    .map(<[u8]>::len)
            });
        });
        let flags = create_comp_flags_from_zip_params(4, -15, 0);
        let mut theirs = CompressorOxide::new(flags);
        let mut out = vec![0; 2 * len];
        group.bench_function(format!("miniz_oxide/{name}"), |b| {
            b.iter(|| {
                theirs.reset();
                compress(&mut theirs, black_box(&payload), &mut out, TDEFLFlush::Sync).2
            });
        });
    }
}

/// Messages of a feed, each with a full window of those before it handed to zlib.
fn deflate_with_takeover(c: &mut Criterion) {
    let mut group = c.benchmark_group("deflate_with_takeover");
    let feed = json(64 * 1024);
    group.throughput(Throughput::Bytes(1024));
    for bits in [9, 10, 12, 15] {
        let mut window = SlidingWindow::new(bits);
        window.push(&feed);
        let (mut deflater, mut out) = (Deflater::default(), Vec::new());
        let mut messages = feed.chunks(1024).cycle();
        group.bench_function(format!("{bits}_bits/1_KiB"), |b| {
            b.iter(|| {
                out.clear();
                let payload = messages.next().unwrap_or_default();
                deflater.encode_frame_with_takeover(&mut out, Opcode::Text, payload, &mut window)
            });
        });
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_compressed_frame(&mut frame, Opcode::Text, None, &compressed(payload));
    frame
}

fn read(inflater: &mut Inflater, window: Option<&mut SlidingWindow>, stream: &mut [u8]) -> bool {
    let mut reader = MessageReader::new();
    let inflation = Inflation { inflater, window };
    let step = reader.next_inflated(Role::Client, &LIMITS, Some(inflation), stream);
    step.is_ok_and(|step| black_box(step.event).is_some())
}

fn inflate(c: &mut Criterion) {
    let mut group = c.benchmark_group("inflate");
    for (name, len) in SIZES {
        let payload = json(len);
        let mut stream = frame(&payload);
        group.throughput(Throughput::Bytes(len as u64));
        let mut inflater = Inflater::default();
        group.bench_function(format!("message/{name}"), |b| {
            b.iter(|| read(&mut inflater, None, black_box(&mut stream)));
        });
        group.bench_function(format!("message_state_made_each_time/{name}"), |b| {
            b.iter(|| read(&mut Inflater::default(), None, black_box(&mut stream)));
        });
        let mut window = SlidingWindow::new(15);
        window.push(&json(32_768));
        group.bench_function(format!("message_with_takeover_15_bits/{name}"), |b| {
            b.iter(|| read(&mut inflater, Some(&mut window), black_box(&mut stream)));
        });
        let (mut theirs, data) = (Box::new(DecompressorOxide::new()), compressed(&payload));
        let mut out = vec![0; 2 * len];
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | TINFL_FLAG_HAS_MORE_INPUT;
        group.bench_function(format!("miniz_oxide/{name}"), |b| {
            b.iter(|| {
                theirs.init();
                decompress(&mut theirs, black_box(&data), &mut out, 0, flags).2
            });
        });
    }
}

criterion_group!(benches, states, deflate, deflate_with_takeover, inflate);
criterion_main!(benches);
