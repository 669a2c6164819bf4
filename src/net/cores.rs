//! Cores: how many there are, and keeping a thread on one.

/// Cores this process may run on, at least 1.
pub fn core_count() -> usize {
    core_affinity::get_core_ids().map_or(1, |ids| ids.len().max(1))
}

/// Keeps the calling thread on the `index`-th core this process may use, counted round when there
/// are more threads than cores. False if the kernel refuses; the thread then runs unpinned.
pub fn pin_to_core(index: usize) -> bool {
    let Some(ids) = core_affinity::get_core_ids().filter(|ids| !ids.is_empty()) else {
        return false;
    };
    core_affinity::set_for_current(ids[index % ids.len()])
}
