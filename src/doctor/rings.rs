//! io_uring and threads: whether every shard can have its own.

use std::thread;

use super::Need;
use super::finding::{Finding, Level, at_least, bytes};
use super::host::Host;
use super::sysctl::Key;
use crate::net::{RINGS_BYTES_PER_SHARD, RINGS_PER_SHARD, RingRefused, Rings, build_runtime};

/// The oldest kernel with what the rings need.
const OLDEST_KERNEL: (u32, u32) = (6, 1);
/// From here on rings count as locked memory of their user.
const KERNEL_THAT_CHARGES: (u32, u32) = (6, 14);
/// Main, log writer, signal waiter.
const HELPER_THREADS: u64 = 3;

/// What came of making the rings of every shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// All were made, and given back.
    Made,
    /// One was refused: why, and the cure.
    Refused(String),
    /// It is another host that is looked at.
    NotMade,
}

/// Makes the rings of `shards` shards at once in a thread of their own, and gives them back.
pub fn try_rings(shards: usize) -> Trial {
    let made = thread::spawn(move || {
        let rings = |_| Ok::<_, RingRefused>((build_runtime()?, Rings::new()?));
        let made: Result<Vec<_>, _> = (0..shards).map(rings).collect();
        made.map(drop)
    });
    match made.join() {
        Ok(Ok(())) => Trial::Made,
        Ok(Err(refused)) => Trial::Refused(refused.to_string()),
        Err(_) => Trial::Refused("making the rings failed".to_owned()),
    }
}

/// Findings about rings and threads.
pub fn findings(host: &Host, need: &Need, trial: &Trial) -> Vec<Finding> {
    let findings = [
        Some(kernel(host)),
        io_uring_disabled(host),
        rings(need, trial),
        Some(locked_memory(host, need)),
        Some(threads(host, need)),
    ];
    findings.into_iter().flatten().collect()
}

fn kernel(host: &Host) -> Finding {
    let (major, minor) = OLDEST_KERNEL;
    let level = match host.kernel_version() {
        Some(version) if version >= OLDEST_KERNEL => Level::Ok,
        _ => Level::Change,
    };
    let why = "rings that run completions only when their own thread asks";
    Finding::new(
        level,
        "kernel",
        &host.release,
        at_least(format!("{major}.{minor}")),
        why,
    )
    .cured_by("a newer kernel; containers have their host's")
}

/// The key came with Linux 6.6.
fn io_uring_disabled(host: &Host) -> Option<Finding> {
    let found = host.io_uring_disabled?;
    let (level, why) = match found {
        0 => (Level::Ok, "every process may make rings"),
        1 => (
            Level::Note,
            "only with CAP_SYS_ADMIN, or in the group of kernel.io_uring_group",
        ),
        _ => (Level::Change, "no process may make a ring"),
    };
    let key = Key::IoUringDisabled;
    Some(Finding::new(level, key.name(), found, key.value(), why).cured_by(key.command(0)))
}

fn rings(need: &Need, trial: &Trial) -> Option<Finding> {
    let count = need.shards * RINGS_PER_SHARD;
    match trial {
        Trial::NotMade => None,
        Trial::Made => {
            let why = "three for each shard; this process just made them and gave them back";
            Some(Finding::new(
                Level::Ok,
                "io_uring",
                format!("{count} rings"),
                count,
                why,
            ))
        }
        Trial::Refused(why) => {
            let finding = Finding::new(
                Level::Change,
                "io_uring",
                "refused",
                format!("{count} rings"),
                why,
            );
            Some(finding.cured_by("tuning/io_uring.md has every cause and its cure"))
        }
    }
}

fn locked_memory(host: &Host, need: &Need) -> Finding {
    let wanted = need.shards as u64 * RINGS_BYTES_PER_SHARD;
    let found = host.locked_memory.soft;
    let is_charged = host
        .kernel_version()
        .is_some_and(|version| version >= KERNEL_THAT_CHARGES);
    let (level, why) = match (found >= wanted, host.privileges.ipc_lock(), is_charged) {
        (true, _, _) => (
            Level::Ok,
            "Linux counts rings as locked memory of their user from 6.14 on",
        ),
        (false, true, _) => (
            Level::Note,
            "this process is exempt, by CAP_IPC_LOCK; one without it is not, from Linux 6.14 on",
        ),
        (false, false, false) => (
            Level::Note,
            "Linux counts rings as locked memory from 6.14 on, some older ones too",
        ),
        (false, false, true) => (
            Level::Change,
            "this kernel counts rings as locked memory of their user",
        ),
    };
    let found = match found {
        u64::MAX => "unlimited".to_owned(),
        found => bytes(found),
    };
    let each = RINGS_BYTES_PER_SHARD / 1024;
    let why = format!("{} x {each} KiB: {why}", need.shards);
    Finding::new(level, "RLIMIT_MEMLOCK", found, at_least(bytes(wanted)), why)
        .cured_by(host.raise_limit("LimitMEMLOCK=infinity", "ulimit -l unlimited"))
}

fn threads(host: &Host, need: &Need) -> Finding {
    let wanted = need.shards as u64 + HELPER_THREADS;
    let why = "threads: one for each shard, and 3 more";
    match host.cgroup.free_threads {
        None => Finding::new(
            Level::Ok,
            "pids.max",
            "no limit",
            format!("{wanted} free"),
            why,
        ),
        Some(free) => {
            let level = if free < wanted {
                Level::Change
            } else {
                Level::Ok
            };
            Finding::new(
                level,
                "pids.max",
                format!("{free} free"),
                format!("{wanted} free"),
                why,
            )
            .cured_by("TasksMax=infinity in its unit, or the container's limit on processes")
        }
    }
}
