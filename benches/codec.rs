//! What the codec costs per frame and per byte. `cargo bench --bench codec`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use longwire::proto::centrifuge::{
    ChannelRef, Commands, Format, PayloadRef, PublicationRef, encode_publication_push, fossil,
};
use longwire::proto::frame::{Opcode, decode_header, encode_frame, encode_masked_frame};
use longwire::proto::http::{HeadLimits, HeadScanner, parse_request};
use longwire::proto::mask::apply_mask;
use longwire::proto::message::{MessageLimits, MessageReader, Role};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const MESSAGE_LIMITS: MessageLimits = MessageLimits {
    message_bytes: 65_536,
    frames_per_message: 128,
};

const HEAD_LIMITS: HeadLimits = HeadLimits {
    head_bytes: 8192,
    headers: 100,
    request_line_bytes: 4096,
};

/// The opening handshake of a desktop browser.
const BROWSER_HEAD: &[u8] = b"GET /channels/chat HTTP/1.1\r\n\
    Host: localhost:8000\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Upgrade: websocket\r\n\
    Origin: http://localhost:8000\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en-US;q=0.9,en;q=0.8\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
    \r\n";

fn headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode_header");
    for (name, header) in [
        ("masked_7_bit", &b"\x81\xa0\x37\xfa\x21\x3d"[..]),
        ("masked_16_bit", b"\x82\xfe\x04\x00\x37\xfa\x21\x3d"),
    ] {
        group.bench_function(name, |b| b.iter(|| decode_header(black_box(header))));
    }
}

fn unmask(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply_mask");
    for (name, len) in [("64_B", 64), ("1_KiB", 1024), ("64_KiB", 65_536)] {
        let mut payload = vec![0x5a; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(name, |b| {
            b.iter(|| apply_mask(black_box(&mut payload), black_box(MASK), 0));
        });
    }
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode_frame");
    let mut out = Vec::with_capacity(70_000);
    for (name, len) in [("32_B", 32), ("100_B", 100), ("1_KiB", 1024)] {
        let payload = vec![0x5a; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                encode_frame(&mut out, Opcode::Text, black_box(&payload));
                black_box(out.len())
            });
        });
    }
}

/// One read of a socket with many small messages in it.
fn messages(c: &mut Criterion) {
    let mut group = c.benchmark_group("message_reader");
    for (name, opcode, len) in [
        ("64_texts_of_32_B", Opcode::Text, 32),
        ("64_binaries_of_32_B", Opcode::Binary, 32),
        ("64_texts_of_100_B", Opcode::Text, 100),
    ] {
        let mut received = Vec::new();
        for _ in 0..64 {
            encode_masked_frame(&mut received, opcode, MASK, &vec![b'a'; len]);
        }
        group.throughput(Throughput::Elements(64));
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || received.clone(),
                |received| read_all(black_box(received)),
                BatchSize::SmallInput,
            );
        });
    }
}

fn read_all(received: &mut [u8]) -> usize {
    let mut reader = MessageReader::new();
    let (mut at, mut events) = (0, 0);
    while let Ok(step) = reader.next(Role::Server, &MESSAGE_LIMITS, &mut received[at..])
        && step.consumed > 0
    {
        at += step.consumed;
        events += usize::from(black_box(step.event).is_some());
    }
    events
}

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("request_head");
    group.throughput(Throughput::Bytes(BROWSER_HEAD.len() as u64));
    group.bench_function("scan", |b| {
        b.iter(|| HeadScanner::new().scan(black_box(BROWSER_HEAD), &HEAD_LIMITS));
    });
    group.bench_function("scan_and_parse", |b| {
        b.iter(|| {
            let head = black_box(BROWSER_HEAD);
            let head_len = HeadScanner::new().scan(head, &HEAD_LIMITS);
            let head = &head[..head_len.ok().flatten().unwrap_or_default()];
            parse_request(head).map(|request| request.keep_alive)
        });
    });
}

/// What is done once per publication and form, however many subscribers get it.
fn publication_pushes(c: &mut Criterion) {
    let mut group = c.benchmark_group("publication_push");
    let mut out = Vec::with_capacity(70_000);
    for (size, len) in [("100_B", 100), ("1_KiB", 1024)] {
        let data = format!("\"{}\"", "x".repeat(len - 2));
        for (name, format) in [("json", Format::Json), ("protobuf", Format::Protobuf)] {
            group.throughput(Throughput::Bytes(len as u64));
            group.bench_function(format!("{name}_{size}"), |b| {
                b.iter(|| {
                    out.clear();
                    let data = PayloadRef::json(black_box(data.as_bytes()));
                    let publication = PublicationRef::new(data, 1234);
                    let channel = ChannelRef::Name("news:sport");
                    encode_publication_push(&mut out, format, false, channel, &publication);
                    black_box(out.len())
                });
            });
        }
    }
}

/// One command of a client that publishes.
fn commands(c: &mut Criterion) {
    let mut group = c.benchmark_group("command");
    let publish =
        br#"{"id":7,"publish":{"channel":"news:sport","data":{"score":[1,0],"minute":57}}}"#;
    let frames = [
        ("pong_json", Format::Json, &b"{}"[..]),
        ("pong_protobuf", Format::Protobuf, b"\0"),
        ("publish_json", Format::Json, publish),
    ];
    for (name, format, frame) in frames {
        group.bench_function(name, |b| {
            b.iter(|| Commands::new(format, black_box(frame), 16).count());
        });
    }
}

/// A patch of a few numbers in 1 KiB of JSON.
fn deltas(c: &mut Criterion) {
    let quotes = |price: u32| {
        let quotes = (0..25).map(|n| format!(r#"{{"symbol":"ACME{n}","bid":1.1{price}}}"#));
        format!("[{}]", quotes.collect::<Vec<_>>().join(","))
    };
    let (before, after) = (quotes(234), quotes(235));
    let mut group = c.benchmark_group("fossil_create");
    group.throughput(Throughput::Bytes(after.len() as u64));
    group.bench_function("1_KiB", |b| {
        b.iter(|| fossil::create(black_box(before.as_bytes()), black_box(after.as_bytes())));
    });
}

criterion_group!(
    codec,
    headers,
    unmask,
    encode,
    messages,
    heads,
    publication_pushes,
    commands,
    deltas
);
criterion_main!(codec);
