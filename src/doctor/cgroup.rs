//! The limits of this process's control groups and of those around them, version 2 and version 1.

use std::path::{Path, PathBuf};

use super::host::Root;

/// From here on a limit of version 1 means none: it says "no limit" with the highest number there is.
const UNLIMITED: u64 = 1 << 60;

/// What the control groups allow. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Where the kernel ends processes (`memory.max`), in bytes. The server knows it and refuses connections before.
    pub memory_max_bytes: Option<u64>,
    /// The same in version 1 (`memory.limit_in_bytes`), which the server does not look at.
    pub memory_v1_bytes: Option<u64>,
    /// Where the kernel slows processes down (`memory.high`), in bytes.
    pub memory_high_bytes: Option<u64>,
    /// What may be swapped out (`memory.swap.max`), in bytes.
    pub swap_max_bytes: Option<u64>,
    /// Threads that may still be started (`pids.max` less `pids.current`).
    pub free_threads: Option<u64>,
}

impl Limits {
    /// Those of this process on the host at `root`.
    pub fn read(root: &Root) -> Self {
        let groups = root.text("proc/self/cgroup").unwrap_or_default();
        let unified = unified_groups(&groups);
        let memory = v1_groups(&groups, "memory");
        let pids: Vec<PathBuf> = [unified.clone(), v1_groups(&groups, "pids")].concat();
        let least = |groups: &[PathBuf], file: &str| {
            groups.iter().filter_map(|g| limit(root, g, file)).min()
        };
        Self {
            memory_max_bytes: least(&unified, "memory.max"),
            memory_v1_bytes: least(&memory, "memory.limit_in_bytes"),
            memory_high_bytes: least(&unified, "memory.high"),
            swap_max_bytes: least(&unified, "memory.swap.max"),
            free_threads: pids
                .iter()
                .filter_map(|group| free_threads(root, group))
                .min(),
        }
    }
}

/// Folders of the version 2 group and those around it. On hosts with both versions they are below `unified`.
fn unified_groups(groups: &str) -> Vec<PathBuf> {
    let Some(path) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Vec::new();
    };
    ["sys/fs/cgroup", "sys/fs/cgroup/unified"]
        .into_iter()
        .flat_map(|base| outwards(base, path))
        .collect()
}

/// Folders of the version 1 group of `controller` and those around it.
fn v1_groups(groups: &str, controller: &str) -> Vec<PathBuf> {
    let path = groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(":/")?;
        controllers
            .split(',')
            .any(|name| name == controller)
            .then_some(path)
    });
    match path {
        Some(path) => outwards(&format!("sys/fs/cgroup/{controller}"), path),
        None => Vec::new(),
    }
}

fn outwards(base: &str, path: &str) -> Vec<PathBuf> {
    let own = Path::new(base).join(path);
    own.ancestors()
        .take_while(|group| group.starts_with(base))
        .map(Path::to_owned)
        .collect()
}

fn limit(root: &Root, group: &Path, file: &str) -> Option<u64> {
    root.number(group.join(file))
        .filter(|number| *number < UNLIMITED)
}

fn free_threads(root: &Root, group: &Path) -> Option<u64> {
    let max = limit(root, group, "pids.max")?;
    let current = root.number(group.join("pids.current")).unwrap_or(0);
    Some(max.saturating_sub(current))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_in_both_versions() {
        let groups = "5:cpu,memory:/a/b\n3:pids:/\n0::/c\n";
        let shown = |paths: Vec<PathBuf>| -> Vec<String> {
            paths
                .iter()
                .map(|path| path.display().to_string())
                .collect()
        };
        assert_eq!(
            shown(unified_groups(groups)),
            [
                "sys/fs/cgroup/c",
                "sys/fs/cgroup",
                "sys/fs/cgroup/unified/c",
                "sys/fs/cgroup/unified"
            ]
        );
        assert_eq!(
            shown(v1_groups(groups, "memory")),
            [
                "sys/fs/cgroup/memory/a/b",
                "sys/fs/cgroup/memory/a",
                "sys/fs/cgroup/memory"
            ]
        );
        assert_eq!(shown(v1_groups(groups, "pids")), ["sys/fs/cgroup/pids/"]);
        assert!(v1_groups(groups, "io").is_empty());
    }
}
