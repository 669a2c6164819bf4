//! Facts about the ring and about file tables that the design rests on. They are not about this
//! project's code: if one of them fails after an update, a rule of the design has lost its reason, or
//! its safety, and must be thought over before the test is changed.

use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Pair;
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use longwire::net::{GiveWay, Stream, build_runtime, own_file_table};
use longwire::shard::{Doorbell, Message, connect};
use monoio::io::AsyncReadRentExt;

fn in_ring<T>(future: impl Future<Output = T>) -> T {
    build_runtime()
        .expect("io_uring is available")
        .block_on(future)
}

/// Why no read is ever raced with anything: what a dropped read had taken is gone.
#[test]
fn a_dropped_read_loses_what_it_had_taken() {
    in_ring(async {
        let (mut far, near) = Pair::pair().unwrap();
        let mut near = monoio::net::UnixStream::from_std(near).unwrap();
        far.write_all(&[1; 200]).unwrap();
        let read = near.read_exact(vec![0; 256]);
        let timed_out = monoio::time::timeout(Duration::from_millis(50), read).await;
        assert!(timed_out.is_err());
        far.write_all(&[2; 256]).unwrap();
        let (_, bytes) = near.read_exact(vec![0; 256]).await;
        assert!(
            bytes.iter().all(|byte| *byte == 2),
            "the first 200 bytes came back"
        );
    });
}

/// What is done instead: only readiness is waited for, and a dropped wait loses nothing.
#[test]
fn a_dropped_readiness_wait_loses_nothing() {
    in_ring(async {
        let (mut far, near) = Pair::pair().unwrap();
        let near = Stream::from_fd(OwnedFd::from(near)).unwrap();
        let writer = thread::spawn(move || {
            for number in 0..20_000u32 {
                far.write_all(&number.to_be_bytes()).unwrap();
            }
        });
        let (mut bytes, mut buffer) = (Vec::new(), [0; 700]);
        loop {
            // Some of these waits are dropped before they are over.
            let wait = monoio::time::timeout(Duration::from_micros(50), near.readable());
            let _ = wait.await;
            match near.try_recv(&mut buffer) {
                Ok(0) => break,
                Ok(read) => bytes.extend_from_slice(&buffer[..read]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        writer.join().unwrap();
        let numbers: Vec<u32> = bytes
            .chunks(4)
            .map(|chunk| u32::from_be_bytes(chunk.try_into().unwrap()))
            .collect();
        assert_eq!(numbers, (0..20_000).collect::<Vec<u32>>());
    });
}

/// Why a long loop gives way through the ring: timers and sockets get their turn then.
#[test]
fn giving_way_through_the_ring_lets_timers_run() {
    in_ring(async {
        let timer = monoio::spawn(monoio::time::sleep(Duration::from_millis(1)));
        let give_way = GiveWay::new().unwrap();
        let mut timer = std::pin::pin!(timer);
        let mut rounds = 0u64;
        let done = std::future::poll_fn(|context| {
            std::task::Poll::Ready(timer.as_mut().poll(context).is_ready())
        });
        let mut is_done = done.await;
        while !is_done {
            rounds += 1;
            assert!(rounds < 10_000_000, "the timer starved");
            give_way.turn().await;
            is_done = std::future::poll_fn(|context| {
                std::task::Poll::Ready(timer.as_mut().poll(context).is_ready())
            })
            .await;
        }
    });
}

/// Why the boot goes in one order: a doorbell opened before the threads part their file tables has the
/// same number in all of them, and is heard.
#[test]
fn a_doorbell_opened_before_the_tables_part_is_heard_after() {
    const MESSAGES: u64 = 20_000;
    let doorbells = [(); 2].map(|()| Arc::new(Doorbell::open().unwrap()));
    let (ports, _main) = connect(&doorbells, 1, 4096, 1 << 20);
    let barrier = Arc::new(Barrier::new(2));
    let (done, all_done) = mpsc::channel();
    for (me, mut ports) in ports.into_iter().enumerate() {
        let (barrier, done) = (Arc::clone(&barrier), done.clone());
        thread::spawn(move || {
            let mut runtime = build_runtime().expect("io_uring is available");
            barrier.wait();
            own_file_table().unwrap();
            runtime.block_on(async {
                let waiter = ports.inbox.waiter().unwrap();
                let mut received = 0;
                // One message goes back and forth, so each side sleeps before every one of them.
                if me == 0 {
                    ports.links[1].send_control(Message::Stop);
                }
                while received < MESSAGES {
                    waiter.wait(|| !ports.inbox.is_empty()).await;
                    while ports.inbox.pop().is_some() {
                        received += 1;
                        ports.links[1 - me].send_control(Message::Stop);
                    }
                }
            });
            done.send(me).unwrap();
        });
    }
    for _ in 0..2 {
        let woken = all_done.recv_timeout(Duration::from_secs(60));
        assert!(woken.is_ok(), "a shard slept through a message");
    }
}
