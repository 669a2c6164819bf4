//! The machine this program runs on, from /proc.

use std::fs;

use serde::{Deserialize, Serialize};

/// What figures depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Cores that are online.
    pub cores: usize,
    /// The first core's name; not every architecture has one.
    pub cpu: Option<String>,
    /// Memory that the kernel manages.
    pub memory_bytes: Option<u64>,
    /// The kernel's release.
    pub kernel: Option<String>,
}

impl Machine {
    /// Reads it; what cannot be read is left out.
    pub fn read() -> Self {
        let file = |path| fs::read_to_string(path).ok();
        let cpuinfo = file("/proc/cpuinfo").unwrap_or_default();
        Self {
            cores: fields(&cpuinfo, "processor").count(),
            cpu: fields(&cpuinfo, "model name").next().map(str::to_owned),
            memory_bytes: file("/proc/meminfo").and_then(|text| memory_bytes(&text)),
            kernel: file("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} cores", self.cores)?;
        if let Some(cpu) = &self.cpu {
            write!(f, " ({cpu})")?;
        }
        if let Some(bytes) = self.memory_bytes {
            write!(f, ", {:.1} GiB", bytes as f64 / f64::from(1 << 30))?;
        }
        if let Some(kernel) = &self.kernel {
            write!(f, ", Linux {kernel}")?;
        }
        Ok(())
    }
}

/// The values of all lines `name : value`.
fn fields<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let (label, value) = line.split_once(':')?;
        (label.trim() == name).then(|| value.trim())
    })
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let total = fields(meminfo, "MemTotal").next()?;
    let kibibytes: u64 = total.strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_are_read() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A B\n\nprocessor\t: 1\nmodel name\t: A B\n";
        assert_eq!(fields(cpuinfo, "processor").count(), 2);
        assert_eq!(fields(cpuinfo, "model name").next(), Some("A B"));
        assert_eq!(memory_bytes("MemTotal:    8 kB\n"), Some(8192));
        assert_eq!(memory_bytes("MemTotal: x\n"), None);
    }

    #[test]
    fn this_machine_has_a_core() {
        let machine = Machine::read();
        assert!(machine.cores > 0);
        assert!(machine.to_string().contains(" cores"));
    }
}
