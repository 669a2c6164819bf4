//! The fuzz targets of tests/fuzz, briefly and on stable: noise and damaged seeds, the same in every run.
//! `FUZZ_SEED=n` draws others, `FUZZ_RUNS=n` more or fewer.

#[path = "fuzz/src/lib.rs"]
mod targets;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use targets::{TARGETS, Target};

const RUNS: u64 = 20_000;
const SEED: u64 = 0x6c6f_6e67_7769_7265;
/// The longest input of noise.
const NOISE_BYTES_MAX: usize = 300;
/// Bytes that parsers treat in their own way.
const TELLING_BYTES: &[u8] =
    b"\0\x01\x7d\x7e\x7f\x80\x81\x88\xbf\xc0\xed\xf4\xfe\xff\r\n\t :;,=\"/?%*0";

#[test]
fn noise_and_damaged_seeds_find_nothing() {
    let number = |name: &str, default: u64| match env::var(name) {
        Ok(value) => value.parse().expect("a number"),
        Err(_) => default,
    };
    let (seed, runs) = (number("FUZZ_SEED", SEED), number("FUZZ_RUNS", RUNS));
    for target in TARGETS {
        println!("{}: seed {seed}, {runs} runs", target.name);
        fuzz(target, seed, runs);
    }
}

fn fuzz(target: &Target, seed: u64, runs: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for seed in target.seeds {
        (target.run)(seed);
    }
    for index in 0..runs {
        let input = match random.u8(..8) {
            0 => noise(&mut random),
            _ => damaged(target.seeds, &mut random),
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) {
            let input = input.escape_ascii();
            eprintln!("{}, seed {seed}, run {index}: b\"{input}\"", target.name);
            resume_unwind(panic);
        }
    }
}

fn noise(random: &mut fastrand::Rng) -> Vec<u8> {
    let len = random.usize(..=NOISE_BYTES_MAX);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

/// One of the seeds, changed in a few places.
fn damaged(seeds: &[&[u8]], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = seeds[random.usize(..seeds.len())].to_vec();
    for _ in 0..random.u8(..6) {
        damage(&mut input, seeds, random);
    }
    input
}

fn damage(input: &mut Vec<u8>, seeds: &[&[u8]], random: &mut fastrand::Rng) {
    let at = random.usize(..=input.len());
    let end = at + random.usize(..=input.len() - at);
    let telling = TELLING_BYTES[random.usize(..TELLING_BYTES.len())];
    match random.u8(..7) {
        0 => input.insert(at, telling),
        1 if at < input.len() => input[at] = telling,
        2 if at < input.len() => input[at] ^= 1 << random.u8(..8),
        3 => input.truncate(at),
        4 => drop(input.drain(at..end)),
        5 => {
            let again = input[at..end].to_vec();
            input.splice(at..at, again);
        }
        _ => {
            let other = seeds[random.usize(..seeds.len())];
            let from = random.usize(..=other.len());
            input.splice(at.., other[from..].iter().copied());
        }
    }
}
