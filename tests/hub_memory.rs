//! What channels cost in memory, counted at the allocator. One test in this file: others would be
//! counted with it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use longwire::hub::{Kind, LocalChannels, OwnedChannels, OwnedLimits, Publication, StreamOptions};

const CHANNELS: usize = 100_000;
/// What a channel with one subscriber may cost at its owner and on the subscriber's shard together.
const CHANNEL_BYTES: usize = 250;

/// The system's allocator, which counts what is asked of it, rounded as allocators do.
struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

fn taken(layout: &Layout) -> usize {
    layout.size().next_multiple_of(16)
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(taken(&layout), Ordering::Relaxed);
        // SAFETY: the caller's promises are those asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(taken(&layout), Ordering::Relaxed);
        // SAFETY: the caller's promises are those asked for.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live_bytes() -> usize {
    LIVE_BYTES.load(Ordering::Relaxed)
}

fn limits(history_bytes: usize) -> OwnedLimits {
    OwnedLimits {
        channels: CHANNELS,
        history_bytes,
    }
}

#[test]
fn channels_cost_what_they_may() {
    owner_and_subscriber();
    history_at_its_bound(100, 1000, &[0]);
    history_at_its_bound(10, 1000, &[100, 1000]);
    history_at_its_bound(1000, 1000, &[5000]);
    history_at_its_bound(1_000_000, 1, &[0, 1, 5000, 500, 20_000]);
}

/// A channel of a name of 16 bytes that one session listens to.
fn owner_and_subscriber() {
    let before = live_bytes();
    let mut owned = OwnedChannels::new(limits(0), 1);
    for i in 0..CHANNELS {
        let name: Arc<str> = format!("channel:{i:08}").into();
        owned.open(&name, 0).unwrap();
    }
    let at_owner = (live_bytes() - before) / CHANNELS;
    let mut local = LocalChannels::default();
    for i in 0..CHANNELS {
        let key = owned.find(&format!("channel:{i:08}")).unwrap();
        let channel = owned.get_mut(key).unwrap();
        let here = local.add(channel.name(), 0, false);
        channel.add_interest(0, here, 0);
        let channel = local.get_mut(here).unwrap();
        channel.set_heard(key);
        channel.add_subscriber(i as u32);
    }
    let both = (live_bytes() - before) / CHANNELS;
    println!("a channel: {at_owner} B at its owner, {both} B with one subscriber");
    assert!(both <= CHANNEL_BYTES);
}

/// The bound on history must hold for the memory really used, in whatever order lengths come.
fn history_at_its_bound(size: u32, channels: usize, lengths: &[usize]) {
    let bound = 4 << 20;
    let options = StreamOptions {
        size,
        ttl_s: 300,
        meta_ttl_s: 300,
    };
    let mut owned = OwnedChannels::new(limits(bound), 1);
    let names = (0..channels).map(|i| format!("{i}").into());
    let keys: Vec<_> = names.map(|name| owned.open(&name, 0).unwrap()).collect();
    let before = live_bytes();
    for bytes in lengths {
        for _ in 0..40_000 / channels {
            for key in &keys {
                let data = vec![b'x'; *bytes].into();
                let mut publication = Publication::new(Kind::Text, data, 0);
                // As when somebody got it too: the buffer is shared from here on.
                drop(publication.clone());
                owned
                    .commit(*key, &mut publication, 0, &options, 0)
                    .unwrap();
            }
        }
        let used = live_bytes() - before;
        let counted = owned.history_bytes();
        println!("{channels} histories of {bytes} B: {counted} B counted, {used} B used");
        assert!(counted <= bound);
        assert!(used <= counted + counted / 20);
    }
}
