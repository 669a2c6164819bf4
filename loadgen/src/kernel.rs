//! What connections cost the kernel of this machine, from /proc: sockets, files, waits, buffers.

use std::collections::BTreeMap;
use std::fs;

use rustix::param::page_size;
use serde::Serialize;

/// A cache that grew by less than this per connection is left out.
const GROWTH_BYTES_MIN: f64 = 8.0;

/// The kernel's memory at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KernelMemory {
    slab_bytes: f64,
    /// The part of it that cannot be given back under pressure.
    unreclaimable_bytes: f64,
    /// Pages of TCP buffers.
    tcp_bytes: f64,
    /// By name; empty if only root may know.
    caches: BTreeMap<String, Cache>,
}

/// A cache of objects of one kind.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cache {
    objects: f64,
    object_bytes: f64,
    /// All pages it has.
    bytes: f64,
}

/// The kernel's memory per connection, both ends together if both are on this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelCost {
    /// Slab: all objects of the kernel.
    pub slab_per_connection_bytes: f64,
    /// The part of it that cannot be given back under pressure.
    pub unreclaimable_per_connection_bytes: f64,
    /// Pages of TCP buffers.
    pub tcp_buffers_per_connection_bytes: f64,
    /// The caches that grew most, the largest first; empty if only root may know.
    pub caches: Vec<CacheCost>,
}

/// A cache's part of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CacheCost {
    /// The cache's name in /proc/slabinfo. The kernel may keep objects of other kinds in it that have the
    /// same size.
    pub name: String,
    /// Objects per connection.
    pub objects_per_connection: f64,
    /// Size of one.
    pub object_bytes: f64,
    /// Pages per connection, what is free in them included.
    pub per_connection_bytes: f64,
}

impl KernelMemory {
    /// Reads it, or says why not.
    pub fn read() -> Result<Self, String> {
        let file = |path: &str| {
            fs::read_to_string(path).map_err(|error| format!("kernel memory: {path}: {error}"))
        };
        let meminfo = file("/proc/meminfo")?;
        let field = |name| {
            meminfo_bytes(&meminfo, name)
                .ok_or_else(|| format!("kernel memory: no {name} in /proc/meminfo"))
        };
        let page = page_size() as f64;
        Ok(Self {
            slab_bytes: field("Slab")?,
            unreclaimable_bytes: field("SUnreclaim")?,
            tcp_bytes: tcp_pages(&file("/proc/net/sockstat")?).unwrap_or(0.0) * page,
            // Only root may read it; the sums above are for everybody.
            caches: file("/proc/slabinfo").map_or_else(
                |error| {
                    eprintln!("longwire-loadgen: {error}: no figures for each kind of object");
                    BTreeMap::new()
                },
                |text| {
                    let caches = text.lines().filter_map(|line| cache(line, page));
                    caches.collect()
                },
            ),
        })
    }
}

impl KernelCost {
    /// From before the first connection and with `connections` of them.
    pub fn between(before: &KernelMemory, after: &KernelMemory, connections: u64) -> Self {
        let each = |after: f64, before: f64| (after - before) / connections.max(1) as f64;
        let grown = after.caches.iter().filter_map(|(name, after)| {
            let before = before.caches.get(name)?;
            Some(CacheCost {
                name: name.clone(),
                objects_per_connection: each(after.objects, before.objects),
                object_bytes: after.object_bytes,
                per_connection_bytes: each(after.bytes, before.bytes),
            })
        });
        let mut caches: Vec<_> = grown
            .filter(|cache| cache.per_connection_bytes >= GROWTH_BYTES_MIN)
            .collect();
        caches.sort_by(|a, b| b.per_connection_bytes.total_cmp(&a.per_connection_bytes));
        Self {
            slab_per_connection_bytes: each(after.slab_bytes, before.slab_bytes),
            unreclaimable_per_connection_bytes: each(
                after.unreclaimable_bytes,
                before.unreclaimable_bytes,
            ),
            tcp_buffers_per_connection_bytes: each(after.tcp_bytes, before.tcp_bytes),
            caches,
        }
    }
}

/// `Slab:   123 kB`
fn meminfo_bytes(meminfo: &str, name: &str) -> Option<f64> {
    let fields = meminfo.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.into_iter().find(|(field, _)| *field == name)?;
    let kibibytes: f64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// `TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 239`
fn tcp_pages(sockstat: &str) -> Option<f64> {
    let line = sockstat
        .lines()
        .find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

/// `name active_objs num_objs objsize objperslab pagesperslab : tunables … : slabdata active_slabs num_slabs …`
fn cache(line: &str, page_bytes: f64) -> Option<(String, Cache)> {
    let mut parts = line.split(" : ");
    let mut objects = parts.next()?.split_ascii_whitespace();
    let name = objects.next()?;
    let mut number = || objects.next()?.parse::<f64>().ok();
    let (_active, count, object_bytes) = (number()?, number()?, number()?);
    let (_per_slab, pages_per_slab) = (number()?, number()?);
    let slabs = parts.nth(1)?.split_ascii_whitespace().nth(2)?;
    let cache = Cache {
        objects: count,
        object_bytes,
        bytes: slabs.parse::<f64>().ok()? * pages_per_slab * page_bytes,
    };
    Some((name.to_owned(), cache))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "TCP                   92    143   2368   13    8 : tunables    0    0    0 : slabdata     11     11      0";

    #[test]
    fn files_of_proc_are_read() {
        assert_eq!(
            cache(TCP, 4096.0),
            Some((
                "TCP".to_owned(),
                Cache {
                    objects: 143.0,
                    object_bytes: 2368.0,
                    bytes: 11.0 * 8.0 * 4096.0
                }
            ))
        );
        assert_eq!(cache("slabinfo - version: 2.1", 4096.0), None);
        assert_eq!(cache("# name <active_objs> <num_objs>", 4096.0), None);
        let meminfo = "SlabX: 1 kB\nSlab:     2 kB\n";
        assert_eq!(meminfo_bytes(meminfo, "Slab"), Some(2048.0));
        assert_eq!(meminfo_bytes(meminfo, "SUnreclaim"), None);
        let sockstat = "sockets: used 1\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 239\n";
        assert_eq!(tcp_pages(sockstat), Some(239.0));
    }

    #[test]
    fn what_grew_is_divided_by_connections() {
        let memory = |slab_bytes, objects| KernelMemory {
            slab_bytes,
            caches: [("TCP", objects), ("dentry", objects / 1000.0)]
                .map(|(name, objects)| {
                    let cache = Cache {
                        objects,
                        object_bytes: 100.0,
                        bytes: objects * 110.0,
                    };
                    (name.to_owned(), cache)
                })
                .into(),
            ..KernelMemory::default()
        };
        let cost = KernelCost::between(&memory(1000.0, 5.0), &memory(4000.0, 25.0), 10);
        assert_eq!(cost.slab_per_connection_bytes, 300.0);
        assert_eq!(
            cost.caches,
            [CacheCost {
                name: "TCP".to_owned(),
                objects_per_connection: 2.0,
                object_bytes: 100.0,
                per_connection_bytes: 220.0
            }]
        );
    }

    #[test]
    fn this_kernel_says_what_it_uses() {
        let memory = KernelMemory::read().unwrap();
        assert!(memory.slab_bytes >= memory.unreclaimable_bytes);
        assert!(memory.unreclaimable_bytes > 0.0);
    }
}
