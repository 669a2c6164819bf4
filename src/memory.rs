//! How much memory the server uses of what it may use. Read once a second by the main thread, which may
//! wait for the kernel; the shards only load a number.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::config::Admission;

/// From this percentage on memory is nearly used up.
const CRITICAL_PERCENT: u64 = 95;
/// Where control groups are.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// How scarce memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Not at all.
    Low,
    /// New connections are to be refused.
    High,
    /// What can be given up is to be given up.
    Critical,
}

/// The server's memory.
#[derive(Debug)]
pub struct Memory {
    limit_bytes: u64,
    high_bytes: u64,
    critical_bytes: u64,
    /// The control group whose limit it is: it counts the kernel's memory for sockets too.
    cgroup: Option<PathBuf>,
    used_bytes: AtomicU64,
    collect: fn(),
}

impl Memory {
    /// Measures against the configured limit, or that of the control group, or all there is. `collect`
    /// makes the allocator give back to the kernel what the calling thread has freed.
    pub fn new(config: &Admission, collect: fn()) -> Self {
        let (limit_bytes, cgroup) = match config.memory_bytes as u64 {
            0 => match own_cgroup_limit() {
                Some((bytes, cgroup)) => (bytes, Some(cgroup)),
                None => (total_bytes().unwrap_or(u64::MAX), None),
            },
            bytes => (bytes, None),
        };
        let part = |percent: u64| limit_bytes / 100 * percent;
        let high_bytes = part(u64::from(config.memory_refuse_percent));
        Self {
            limit_bytes,
            high_bytes,
            critical_bytes: part(CRITICAL_PERCENT).max(high_bytes),
            cgroup,
            used_bytes: AtomicU64::new(0),
            collect,
        }
    }

    /// Reads how much is used. May wait for the kernel; keeps the last sample where it does not say.
    pub fn sample(&self) {
        let in_cgroup = self.cgroup.as_deref().and_then(working_set_bytes);
        if let Some(used_bytes) = resident_bytes().max(in_cgroup) {
            self.used_bytes.store(used_bytes, Relaxed);
        }
    }

    /// As of the last sample.
    pub fn pressure(&self) -> Pressure {
        match self.used_bytes.load(Relaxed) {
            used if used >= self.critical_bytes => Pressure::Critical,
            used if used >= self.high_bytes => Pressure::High,
            _ => Pressure::Low,
        }
    }

    /// Gives back what the calling thread has freed. The allocator does so only while it is busy, and
    /// memory that nobody uses would go on counting.
    pub fn collect(&self) {
        (self.collect)();
    }

    /// As of the last sample.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Relaxed)
    }

    /// What may be used.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }
}

/// Resident memory of this process; `None` without procfs.
pub fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn total_bytes() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 = field(&info, "MemTotal:")?;
    Some(kib * 1024)
}

/// The least limit of this process's control group and those around it (cgroup v2).
fn own_cgroup_limit() -> Option<(u64, PathBuf)> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    cgroup_limit(&groups, Path::new(CGROUP_ROOT))
}

/// The same, of the process with these `groups`, where the tree of groups is at `root`.
fn cgroup_limit(groups: &str, root: &Path) -> Option<(u64, PathBuf)> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = root.join(path);
    own.ancestors()
        .take_while(|group| group.starts_with(root))
        .filter_map(|group| Some((read_number(&group.join("memory.max"))?, group.to_owned())))
        .min_by_key(|(bytes, _)| *bytes)
}

/// What a control group uses and the kernel cannot simply drop.
fn working_set_bytes(cgroup: &Path) -> Option<u64> {
    let used = read_number(&cgroup.join("memory.current"))?;
    let stat = fs::read_to_string(cgroup.join("memory.stat")).ok()?;
    let droppable = field(&stat, "inactive_file").unwrap_or(0);
    Some(used.saturating_sub(droppable))
}

/// `None` for `max`, which is no limit.
fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number after `name` on a line of its own.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(used_bytes: u64, limit_bytes: usize, refuse_percent: u32) -> Memory {
        let config = Admission {
            memory_bytes: limit_bytes,
            memory_refuse_percent: refuse_percent,
            ..Admission::default()
        };
        let memory = Memory::new(&config, || ());
        memory.used_bytes.store(used_bytes, Relaxed);
        memory
    }

    #[test]
    fn pressure_rises_with_use() {
        for (used_bytes, expected) in [
            (0, Pressure::Low),
            (849, Pressure::Low),
            (850, Pressure::High),
            (949, Pressure::High),
            (950, Pressure::Critical),
            (2_000, Pressure::Critical),
        ] {
            assert_eq!(memory(used_bytes, 1_000, 85).pressure(), expected);
        }
        assert_eq!(memory(960, 1_000, 97).pressure(), Pressure::Low);
        assert_eq!(memory(970, 1_000, 97).pressure(), Pressure::Critical);
    }

    #[test]
    fn without_a_configured_limit_there_is_one_and_it_is_not_reached() {
        let memory = memory(0, 0, 100);
        assert!(memory.limit_bytes() > 0);
        memory.sample();
        assert!(memory.used_bytes() > 0);
    }

    #[test]
    fn the_tightest_control_group_around_counts() {
        let root = std::env::temp_dir().join(format!("longwire-cgroup-{}", std::process::id()));
        let (slice, own) = (root.join("slice"), root.join("slice/own"));
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("memory.max"), "max\n").unwrap();
        fs::write(slice.join("memory.max"), "1000\n").unwrap();
        fs::write(slice.join("memory.current"), "900\n").unwrap();
        fs::write(slice.join("memory.stat"), "anon 1\ninactive_file 300\n").unwrap();
        let limit = cgroup_limit("1:cpu:/\n0::/slice/own\n", &root);
        let without = cgroup_limit("4:memory:/slice\n", &root);
        let used_bytes = working_set_bytes(&slice);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(limit, Some((1000, slice)));
        assert_eq!(without, None);
        assert_eq!(used_bytes, Some(600));
    }

    #[test]
    fn finds_fields_of_procfs() {
        let text = "MemTotal:       24689764 kB\nMemFree: 1 kB\n";
        assert_eq!(field(text, "MemTotal:"), Some(24_689_764));
        assert_eq!(field("file 1\ninactive_file 7\n", "inactive_file"), Some(7));
        assert_eq!(field(text, "Swap:"), None);
    }
}
