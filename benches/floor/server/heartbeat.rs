//! Ping and pong by bare calls, once a second.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::time::{ClockId, clock_gettime};

use super::shared::{Beats, Heartbeat};

/// A Ping without a payload.
const PING: [u8; 2] = [0x89, 0x00];
/// The first byte of a Pong.
const PONG: u8 = 0x8a;

/// Does one thread's part.
pub fn run(plan: &Heartbeat, sockets: &[OwnedFd]) -> io::Result<Beats> {
    let mut beats = Beats::default();
    for second in 0..=plan.seconds {
        sleep_until(plan.start + Duration::from_secs(second.into()));
        let began_ns = thread_cpu_ns();
        if second > 0 {
            for socket in part(sockets, second - 1, plan.interval_s) {
                beats.pairs += u64::from(take_pong(socket)?);
            }
        }
        if second < plan.seconds {
            for socket in part(sockets, second, plan.interval_s) {
                send(socket, &PING, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
                beats.pings += 1;
            }
        }
        beats.cpu_ns += thread_cpu_ns() - began_ns;
    }
    Ok(beats)
}

/// Every `interval_s`-th socket, another part each second.
fn part(sockets: &[OwnedFd], second: u32, interval_s: u32) -> impl Iterator<Item = &OwnedFd> {
    let first = (second % interval_s) as usize;
    sockets.iter().skip(first).step_by(interval_s as usize)
}

fn take_pong(socket: &OwnedFd) -> io::Result<bool> {
    let mut buffer = [0; 64];
    match recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
        Ok((read, _)) => Ok(read > 0 && buffer[0] == PONG),
        Err(Errno::AGAIN) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn sleep_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

fn thread_cpu_ns() -> u64 {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    used.tv_sec.unsigned_abs() * 1_000_000_000 + used.tv_nsec.unsigned_abs()
}
