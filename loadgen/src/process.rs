//! Memory and CPU time of processes, from /proc.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};

use crate::metrics_scrape::Snapshot;

/// Resident memory and CPU time of `processes` together, under the names a /metrics page gives them.
pub fn read(processes: &[u32]) -> Result<Snapshot, String> {
    let (mut resident_bytes, mut cpu_seconds) = (0.0, 0.0);
    for process in processes {
        let gone = |error: &dyn std::fmt::Display| format!("no process {process}: {error}");
        let file = |name| {
            fs::read_to_string(format!("/proc/{process}/{name}")).map_err(|error| gone(&error))
        };
        resident_bytes += resident(&file("statm")?).ok_or_else(|| gone(&"statm is unreadable"))?;
        cpu_seconds += cpu(&file("stat")?).ok_or_else(|| gone(&"stat is unreadable"))?;
    }
    Ok(Snapshot::of([
        ("process_resident_memory_bytes", resident_bytes),
        ("process_cpu_seconds_total", cpu_seconds),
    ]))
}

fn resident(statm: &str) -> Option<f64> {
    let pages: f64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * page_size() as f64)
}

/// User and system time, the 14th and 15th field; the second is a name in parentheses that may hold
/// spaces and parentheses of its own.
fn cpu(stat: &str) -> Option<f64> {
    let behind_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a ) b (c) S 1 2 3 4 5 6 7 8 9 10 200 100 0 0";
        let expected = 300.0 / clock_ticks_per_second() as f64;
        assert_eq!(cpu(stat), Some(expected));
        assert_eq!(cpu("7 (a"), None);
        assert_eq!(resident("100 x"), None);
    }

    #[test]
    fn processes_add_up() {
        let own = std::process::id();
        let memory = |processes: &[u32]| {
            let snapshot = read(processes).unwrap();
            snapshot.total("process_resident_memory_bytes").unwrap()
        };
        assert!(memory(&[own, own]) > 1.5 * memory(&[own]));
        assert!(read(&[u32::MAX]).unwrap_err().contains("no process"));
    }
}
