//! Longwire, a push server for long-lived connections: WebSocket clients listen to channels, anybody
//! who may publishes to a channel over HTTP, and every listener gets every publication in one order.
//!
//! This page is the map of the code. `tests/architecture.rs` holds it against the source.
//!
//! # The picture
//!
//! ```text
//!   WebSocket clients                                publishers (HTTP POST)
//!          |                                                  |
//!          |  one address; the kernel gives each new connection to one of the listeners
//!          v                          v                       v
//!   +---------------+         +---------------+        +---------------+
//!   | shard 0       |         | shard 1       |        | shard N-1     |   each shard: one thread
//!   |   listener    |         |   listener    |        |   listener    |   on one core, one io_uring,
//!   |   endpoints   |         |   endpoints   |  ...   |   endpoints   |   one file table, its own
//!   |   sessions    |         |   sessions    |        |   sessions    |   sessions, channels, wheel,
//!   |   hub, wheel  |         |   hub, wheel  |        |   hub, wheel  |   buffers and counters
//!   +-------^-------+         +-------^-------+        +-------^-------+
//!           |                         |                        |
//!           +--- inbox + doorbell ----+--- inbox + doorbell ---+   bounded queues, nothing else
//!
//!   main thread: boot, signals, drain          helper threads: log writer, signal waiter
//!
//!                 calls: one bounded queue
//!   every shard ----------------------------> hooks' thread <===HTTP===> your backend, key documents
//!        ^                                       |          (it runs only if there is anything to call)
//!        +------- outcomes: into its inbox ------+
//! ```
//!
//! A **session** lives on the shard whose listener accepted it, all its life. A **channel** has one
//! **owner shard**, by a keyed hash of its name; only the owner gives publications their offsets, so
//! the order of a channel needs no lock. The owner knows which shards have subscribers, and sends a
//! publication to those shards only, once each.
//!
//! # How a publication travels
//!
//! 1. **Bytes.** One task (`serve_sockets` in `src/shard/tasks.rs`) waits for all sockets of the shard, by
//!    the ring of polls in `src/net/watch.rs`. It enters the core through `Shard::enter`, and `Core::receive`
//!    (`src/shard/receive.rs`) reads into the shard's one scratch buffer.
//! 2. **Head.** `HttpStage::advance` (`src/shard/http.rs`) finds the end of the head,
//!    `proto::http::parse_request` reads it, and `Core::admit_request` asks the endpoint's `admit` (a row of
//!    `ROUTES` in `src/endpoints/mod.rs`) before a byte of the body is kept: path, method, key, origin.
//! 3. **Body.** `Core::answer_request` calls the endpoint's `answer`. For `POST /channels/{channel}` that is
//!    `channels::answer`, which decides the kind with `publishing::kind_of` and calls `Core::publish`
//!    (`src/shard/channels.rs`).
//! 4. **To the owner.** `Shared::owner_of` names the shard. If it is this one, the answer is ready at once.
//!    If not, `Link::has_room` is asked, a `Message::Publish` goes into the owner's inbox, and the session
//!    waits in `Phase::AwaitPublished`; the owner's inbox task hands it to `Core::handle`, and the
//!    answer comes back as `Message::Published`.
//! 5. **Sequenced or refused.** `Core::sequence` first asks whether everybody has room:
//!    `OwnedChannel::has_room` (the channel's batch on every interested shard) and `Link::has_room` (the
//!    inbox of every interested shard). If anybody has none, the publication is refused *before* it has an
//!    offset: 503 with Retry-After. Otherwise `OwnedChannels::commit` gives it the next offset, and a
//!    `Message::Deliver` goes to every interested shard.
//! 6. **Encoded once.** `Core::deliver` on each of those shards appends one encoded frame to the channel's
//!    batch (`Batch::append` in `src/hub/batch.rs`) and marks the channel ready; on its way out
//!    `Shard::enter` rings the fan-out task.
//! 7. **A pass.** `Core::fan_out` (`src/shard/fanout.rs`) tells the owner that the batch is under way
//!    (`Message::Taken`, which returns the credit), and visits the subscribers in slices; between two slices the
//!    ring is served. Each gets what it lacks by then, in one send: what is published during a pass goes with it
//!    to those it has not reached, and with the next to the others. Nobody waits longer than one pass takes.
//!    Where shards share cores, those of a core make long passes one after the other (`src/shard/baton.rs`).
//!    A pass over a few, when nothing else is ready, is made before the publisher has its answer
//!    (`Core::fan_out_alone`): a message is waited for more than an answer is.
//! 8. **Out.** Up to 64 sends of a pass make a burst (`src/shard/burst.rs`), which one call hands to the kernel; what
//!    is sent alone goes through `Core::send_to` (`src/shard/send.rs`). What the kernel does not take goes into the
//!    session's outbox, which is sent when the socket has room again (`Core::flush`). A reader that stays behind too
//!    far or too long is closed.
//!
//! # How a connection lives
//!
//! ```text
//!   accept ----> Stage::Http ----> Stage::WebSocket ----> Stage::Closing ----> gone
//!                  |    ^          or Stage::Stream           CloseFrame, Flush, EndOfFile
//!                  +----+               |  pings, deadlines, outbox
//!             further requests,         +---- reset: stalled, dead, broken ----> gone
//!             or Stage::Poll
//! ```
//!
//! - **Steered.** With a shard for each core the kernel spreads connections over all of them. With more, the main
//!   thread steers them (`Steering` in `src/server.rs`) to one shard of each core, and to the next when half of
//!   its room is gone: few threads with much to do each time they wake, and no shard full before the others.
//! - **Accept.** The `accept` task takes up to 64 connections in a row. `Core::accept` refuses
//!   whoever there is no room for (503, see `src/shard/admission.rs`; while too many are being refused it rests and
//!   the kernel holds them) and otherwise enters a `Session` in the table with a deadline in the wheel, and a
//!   wait for its first bytes in the ring (`Core::watch`). It has no task of its own.
//! - **HTTP stage.** One box (`HttpStage`) holds everything a connection needs until it is a WebSocket: input,
//!   phase, deadline. Requests may be pipelined and are answered in order. The box is dropped at the upgrade.
//! - **Upgrade.** `Core::subscribe` puts the session into the local channel. The first subscriber of a channel
//!   on a shard asks the owner (`Message::Join`) and waits in `Phase::AwaitJoined`; 101 is sent by `Core::open`
//!   only when publications do reach this shard. So whatever is published after a client saw its 101 is for it.
//! - **Stream.** A response that goes on: an event stream, lines of JSON. What comes from its client is thrown away.
//! - **Poll.** A request that waits (`src/shard/poll.rs`) gives its `HttpStage` up for a smaller box and is a subscriber
//!   like any other, whose frames are the parts of one answer. With the first pass, at the end of its time or when the server stops it
//!   leaves the channel, has its `HttpStage` again and is answered; the connection goes on with the next request.
//! - **WebSocket.** `MessageReader::next` (`src/proto/message.rs`) turns bytes into messages and control
//!   frames, `Core::act_on_event` acts on them. The first ping comes at a random moment of the interval; from
//!   then on `Vitals::pulse` (`src/hub/vitals.rs`) decides at each deadline: quiet, ping, missed, dead.
//! - **Closing.** `Core::close` sends a Close and waits for the client's; `Core::fail` (the client broke the
//!   protocol) and `Core::answer_close` (the client closed) send theirs and end this side of TCP; the server ends
//!   TCP first. A Close never lands inside a frame: `Outbox::cut` keeps the rest of the frame that is partly out and
//!   drops everything after it. Whatever is missing after `websocket.close_timeout_ms` ends with a reset.
//! - **Gone.** `Core::end` takes the session out of its channel, the table and the wheel, counts the reason,
//!   and closes the socket. What still comes of its waits names a key that nobody has any more.
//!
//! # How the backend is asked
//!
//! - **A decision.** Where the configuration names an endpoint, a command is not decided here: `Core::admit_client`
//!   (`src/shard/connecting.rs`), `Core::permit_subscribe`, `Core::command_publish` and `Core::command_rpc` lead to
//!   `Core::ask_backend` (`src/shard/hooks.rs`), and so does what has expired (`Core::expire_client`).
//! - **A call.** `HooksHandle::submit` puts it into the queue of the hooks' thread or says that it is full, and the client
//!   waits for `Awaited::Hook`. Nothing else waits: its other commands go on being read, up to as many as may be
//!   outstanding. Only until the client is let in, and while a subscription to the same channel is being made,
//!   they wait too, as `Awaited::Turn`.
//! - **An outcome.** Every call has one. `Returns` (`src/shard/backend.rs`) puts it into the shard's inbox as
//!   `Message::Hook`, by links of its own, and `Core::hook_answered` goes on where the command stopped. Without an answer
//!   the client is told to try again: error 100, and 3004 while it connects.
//! - **Keys.** A token that names a key nobody knows makes its command wait as `Awaited::Keys` (`src/shard/jwks.rs`) until
//!   a younger document came as `Message::Keys`, or word that there is none. Then it is decided once more. A request of
//!   the plain dialect waits in `Phase::AwaitKeys` and is answered once more.
//!
//! # How a connection takes over
//!
//! - **The owner.** A device has an owner shard, by its keyed hash. `Core::take_over` (`src/shard/takeover.rs`) sends it
//!   `Message::TakeOver`; its `Holders` (`src/hub/device.rs`) say who held the device, which gets `Message::Fence`.
//! - **The older one** is ended on its shard, in the words of its carrier, and `Message::Fenced` says so. Only then the newer
//!   one goes on: it waits as `Awaited::Takeover` or in `Phase::AwaitDevice`. `Message::GiveUp` of one that is fenced is late.
//! - **Presence.** The owner of a channel knows its devices (`src/hub/attendance.rs`): a client that comes by a device that is
//!   there, or lingers (`src/shard/lingering.rs`), takes its place, and nobody is told.
//!
//! # Invariants
//!
//! - **Shards share nothing** but: the configuration and the ready flag (`Shared`), the inboxes, doorbells and
//!   their credit counters (`src/shard/inbox.rs`), metrics, which one shard writes and any may read, the
//!   connections by client address (`src/shard/addresses.rs`), which all write because the kernel scatters an
//!   address over the shards, the batons of shared cores, and the memory in use, which the main thread writes, and the queue to the hooks' thread. No code here takes a lock.
//! - **One way in.** `Shard::enter` is the only way to the `Core`. Everything in the core is synchronous: it
//!   runs to its end without waiting, so no two pieces of code ever see it half changed.
//! - **One outbox.** All bytes of a session (101, frames, pongs, Close, HTTP answers) go through `Core::send_to`, or
//!   through `Core::make_sends` if its outbox is empty. Nothing else writes to its socket, so order and bounds hold by
//!   construction. The one exception is the Close of a peer that is given up, written only when no outbox is there.
//! - **Only readiness is waited for.** No read, write or accept is ever left in a ring, only polls: the sends of a
//!   burst never wait, and are over when the call that makes them returns. So dropping a wait loses neither bytes nor
//!   descriptors (`tests/hazards.rs` shows what happens otherwise).
//! - **What is planned goes first.** `Core::plan_send` leaves bytes for the next burst. Whatever is sent at once, a
//!   session's end and leaving the core make that burst before, so nothing overtakes it.
//! - **A poll ends by being shut down, never by being cancelled.** The kernel finds a poll to cancel by
//!   walking a list of all polls divided by 256; with a million of them that costs more than a connection.
//! - **The owner sequences only with credit** from every interested shard. Nobody blocks on another shard, no
//!   inbox is ever full, and nothing that has an offset is dropped between shards.
//! - **A session leaves every list before its socket is closed.** Lists hold slots or keys, never descriptors,
//!   and a `Key` of a session that left never finds the one that came after.
//! - **Order of the boot** (`src/server.rs`): claim the ports, start the helper threads, open the doorbells; every
//!   shard thread builds its ring; a barrier; each thread takes a file table of its own; only then listeners.
//!   Descriptors from before the barrier have the same number in every table and are never closed.
//! - **Long loops give way through the ring** (`GiveWay::turn`), never by waking themselves: monoio would starve
//!   its timers and sockets.
//! - **No panic is reachable from the network.** A panic in one task would end its shard; the program is built
//!   with `panic = "abort"`, and a supervisor starts it again.
//! - **Everything a peer can cause has a bound**, a status or close code, and a counter.
//! - **An idle listener, WebSocket or stream, has no task**, no buffer, no queue and no timer of its own: a table entry, a descriptor,
//!   a poll in the kernel, a place in the wheel and 4 bytes in its channel's list. `Session` and `Vitals` assert their sizes.
//!
//! # Rooms
//!
//! The arrows of the code. A room may name the rooms in its second column and no others.
//!
//! | Room | May use | What it is |
//! |---|---|---|
//! | `main` | `cli`, `doctor`, `log`, `server` | allocator, arguments, run |
//! | `cli` | `auth`, `clock`, `config`, `limits`, `net` | the command line, checked and decided |
//! | `auth` | | tokens and their keys, revocations, API keys: who a client is and what it may do |
//! | `config` | `proto` | every setting, declared once; file, environment, flags |
//! | `limits` | `config` | how many shards and connections the file limits allow |
//! | `doctor` | `config`, `limits`, `net` | what a host holds, and what to change: its files read, nothing written |
//! | `memory` | `config` | how much memory is used of what may be |
//! | `log` | `config` | the lossy, bounded log writer, and limits on lines a peer can cause |
//! | `server` | `auth`, `config`, `endpoints`, `hooks`, `hub`, `limits`, `log`, `memory`, `metrics`, `net`, `shard`, `state` | boot order, signals, drain |
//! | `endpoints` | `auth`, `clock`, `config`, `hub`, `metrics`, `proto`, `shard` | one file per thing a URL can be; of `hub` its values only |
//! | `shard` | `auth`, `clock`, `config`, `hooks`, `hub`, `log`, `memory`, `metrics`, `net`, `proto` | one core: sessions, fan-out, inbox, deadlines |
//! | `state` | `clock`, `hub` | the file that a clean stop leaves for the next start |
//! | `hooks` | `metrics`, `net` | calls to the application's backend, in a thread of their own, off the shards |
//! | `hub` | `proto` | who listens to what, one shard's plain data: no socket, clock or thread |
//! | `net` | | sockets, listeners, the ring, file tables, cores |
//! | `proto` | | bytes to values and back: HTTP/1.1, WebSocket, Centrifuge, SSE, SockJS. No I/O, clock or async |
//! | `metrics` | `memory`, `proto` | counters of a shard, and the text of `/metrics` |
//! | `clock` | | seconds since the shard started |
//! | `loadgen` | `auth`, `net`, `proto` | the load generator, a crate of its own in `loadgen/` |
//!
//! `src/console/` is the page served at `/` and the browser client served at `/longwire.js`, compiled in.
//!
//! # Words
//!
//! One word for one thing.
//!
//! | Word | Meaning |
//! |---|---|
//! | shard | One thread on one core with everything it needs to serve: `Core` is its state, the tasks around it wait |
//! | session | What a shard remembers of one connection |
//! | stage | What a session is doing: HTTP, WebSocket, closing |
//! | channel | A name to publish to and to listen to |
//! | owner (shard) | The shard that sequences a channel |
//! | owned channel | The channel as its owner sees it: epoch, newest offset, history, presence, interested shards |
//! | local channel | The channel as a shard with subscribers sees it: subscribers, batch |
//! | interest | The owner's note that a shard has subscribers. Join begins it, leave ends it |
//! | subscriber, subscription | A session in a local channel; its place there |
//! | publication | What was published: kind (JSON, text, binary), data, offset, time; rarely more |
//! | sequence, commit | Give a publication its offset. Refused means: it has none, and nobody will see it |
//! | offset | A publication's place in its channel's epoch: 1, 2, 3, … |
//! | epoch | Names one unbroken run of offsets. Random; it changes when a client could not tell what it lacks |
//! | position | Epoch and offset: a publication's place, where a channel stands, up to where a client has everything |
//! | stream | A channel's publications in their order, as far as they are kept |
//! | history | The newest publications of a channel, kept by its owner |
//! | recover | Give a client that comes back everything it lacks, or say that it cannot be had |
//! | evict | Give up a history for want of memory, that of the channel published to least recently. Its epoch changes |
//! | presence | Who is on a channel: its clients, and how many users they belong to |
//! | device | What has one connection at a time, in the plain dialect one for each channel: named by its token, or by the client itself (`session=`) |
//! | takeover, fence | A newer connection of a device ends the older one first; have the older one ended |
//! | holder | The connection that has a device, as the device's owner shard sees it |
//! | departure | How a client leaves a channel: it left, it was lost, or it was handed over to a newer connection |
//! | linger | Be shown as present after the connection was lost, until the time of grace is over |
//! | idempotency key | Names a publication to its publisher, who may ask again: the answer is the same |
//! | snapshot | What a server leaves for the one after it on a clean restart: epochs, offsets, histories, keys |
//! | entry, piece | One channel or key in a snapshot; entries that a shard gives at a time |
//! | frozen | Of a shard that has begun to give its share of the snapshot: nothing is sequenced any more |
//! | deliver | Bring a publication to a shard, then to a subscriber's socket or outbox |
//! | batch | Encoded frames of a channel that some subscriber on this shard lacks, and who has had how many |
//! | pass | Once round all subscribers of a channel on one shard; each gets what it lacks |
//! | long pass | A pass over more than 256 subscribers, where shards share cores. It waits for the baton |
//! | baton | Held by one shard of a core at a time, for one long pass; the others queue for it |
//! | slice | A bounded number of sends, after which the ring is served |
//! | burst | Sends that the kernel makes in one call: of a pass, pings, answers to handshakes |
//! | coalesced | Of a send: it carried more than one publication |
//! | carrier | What brings a client's messages and takes the server's: a WebSocket, a stream and posts, polls |
//! | emulation | Commands come by posts of their own, since the session's connection goes one way |
//! | polled session | One without a connection of its own: SockJS clients poll it, on the shard a keyed hash of its id names |
//! | receiver | A poll that waits for what a polled session is sent next, or a stream that asks for it over and over |
//! | outbox | A session's bytes that the kernel would not take. It does not exist while the kernel takes everything |
//! | slow consumer | A session whose outbox is too full, or full for too long |
//! | inbox | A shard's queue of messages from other shards |
//! | link | One sender's way into one inbox |
//! | allowance, credit | How much a sender may have in an inbox; what of it is free |
//! | data, control | Messages that carry a publication; all others. Each has its own allowance |
//! | doorbell | Wakes a shard that sleeps in its ring. The park flag says whether it must be rung |
//! | bell | The same within one thread: a task waits, other code rings |
//! | wheel | The timer wheel: one deadline per session, one-second slots |
//! | deadline | The earliest moment at which something is due for a session |
//! | heartbeat, ping, miss | The server pings; a miss is a pong timeout without any byte from the client |
//! | stall | No byte of an outbox was taken for the whole stall timeout |
//! | watch | Waits for many sockets; what is watched is a session whose bytes are waited for |
//! | steer | Tell the kernel which shards take new connections, where shards share cores: those with the most room |
//! | drain | The orderly stop: unready, no new connections, sessions closed over a window, exit |
//! | plain dialect | One URL, one channel, no library needed: a WebSocket, an event stream, lines, a poll. Verbatim, or as envelopes |
//! | envelope | A publication as a JSON object: offset, kind, data. The words of the subprotocol `longwire.v1` |
//! | poll, page | A request answered with what its client lacks, at once (short) or when there is something (long); that answer |
//! | gap | Publications that a client that comes back lacks, and that are not to be had. It is told |
//! | listener | Who listens in the plain dialect, to one channel or several |
//! | opening, part | Of a listener of several channels: its request while it waits for their owners; one of them |
//! | command, reply, push | Of the Centrifuge protocol: what a client wants, what came of it, what the server says unasked |
//! | payload | Data of an application's with its kind, as a message carries it |
//! | delta, patch | A publication as what differs from the one before; the bytes that say so |
//! | tags, filter | Names and values a publisher gives; which of them a subscriber wants |
//! | cursor | `epoch:offset`: where a client of the plain dialect stands, in one channel or several |
//! | order | Something to be done with the connections of a user, or with one of them, wherever they are |
//! | endpoint, route | What answers a URL; its row in `ROUTES` |
//! | admit, answer | An endpoint's decision from the head alone; its answer to the whole request |
//! | purpose | What a WebSocket client's messages mean: nothing (it listens), a publication, an echo |
//! | namespace | What a channel's name begins with, up to the first `:`; its channels share their options |
//! | options | What may be done in a channel and what is kept of it: history, presence, who may publish |
//! | backend, proxy | Your HTTP server that is asked what a client may do; where the configuration says how to ask it |
//! | hook | A moment at which the backend is asked: connect, refresh, subscribe, publish, sub_refresh, rpc |
//! | target | One endpoint of the backend, as configured: its URL, time-out, headers |
//! | call, outcome | One request to a target; what became of it. Every call that was taken has exactly one outcome |
//! | breaker | Stops calls to a target that keeps failing, and probes it after a pause |
//! | completion | The way of outcomes and keys from the hooks' thread back to the shards |
//! | census | Counting the connections of a user over all shards before one more is let in |
//! | key source | Where a document of keys (JWKS) is fetched from |
//! | plan | Shards and connections of a server about to start |
//! | token | A signed statement of who a client is, or of one subscription (JWT). What it says are its claims |
//! | key set | Public keys by their names, from a file or an identity provider (JWKS) |
//! | revocation | Refuses tokens of a user, or one token, until they would have expired anyway |
//! | scope | What an API key may do: methods and channels |
//!
//! # Where to look
//!
//! | To … | go to |
//! |---|---|
//! | add an endpoint | two functions in a new file of `src/endpoints/`, a row in `ROUTES`, a row in the README's table of URLs |
//! | add a transport | its bytes in `src/proto/`; its endpoint; a variant of `Answer` (`src/shard/mod.rs`) and one of `Stage` (`src/shard/session.rs`). The compiler then names every place that must decide: `answer_request` in `src/shard/requests.rs`, `received` in `src/shard/receive.rs`, `reschedule` and `expire_session` in `src/shard/timers.rs`, `drain_session` in `src/shard/drain.rs`, `is_paused` and its neighbours in `src/shard/session.rs`. `Core::open` shows how a session changes its stage, `Core::deliver` is where publications are framed, for WebSockets only so far |
//! | add a metric | a field of `ShardMetrics` and a row of `FAMILIES` or `LABELLED` in `src/metrics.rs`, a row in the README |
//! | check one more thing of a host | a value in `src/doctor/host.rs`, a finding in the file next to it that is about it; a sysctl also in `tuning/host/`, with its reason |
//! | add a reason for closing or refusing | a variant in `src/metrics.rs` |
//! | add a setting | a row in `src/config/settings.rs`, or of a group in `src/config/channel_options.rs`, `client.rs`, `proxy.rs`; relations between settings in `src/config/rules.rs` and `client_rules.rs`; then `UPDATE_README=1 cargo test --test readme` |
//! | add a close code | a variant of `CloseCode` in `src/proto/close.rs`, a reason in `src/metrics.rs`, a row in the README |
//! | change what a token may say | `src/auth/claims.rs`; which are accepted, `src/auth/verifier.rs`; how keys are chosen, `src/auth/keys.rs` |
//! | add a method to the server API | a function in the file of `src/endpoints/api/` it belongs to, a row of `METHODS` in its `mod.rs`, a row in the README |
//! | change who may use the server API | `src/endpoints/access.rs` |
//! | change who is let in | `src/shard/admission.rs`, and `[admission]` in the settings |
//! | change what a slow reader may hold | `src/hub/outbox.rs`, and `[outbox]` in the settings |
//! | change what a client that comes back gets | `Stream` in `src/hub/history.rs` |
//! | change what outlives a restart | `Entry` in `src/hub/snapshot.rs`, and the number in its first line |
//! | change who ends whose connection | `device_of` in `src/endpoints/listening.rs` and `Core::connect` in `src/shard/takeover.rs` |
//! | change the heartbeat | `src/hub/vitals.rs` |
//! | change what shards tell each other | `Message` in `src/shard/inbox.rs`, `Core::handle` in `src/shard/channels.rs` |
//! | change what the backend is asked about | `src/shard/hooks.rs`; which endpoint, `src/shard/backend.rs` |
//! | change how the backend is called | `src/hooks/`: `pool.rs`, `breaker.rs` and `refresh.rs` decide, `worker.rs` acts; bodies in `src/proto/hooks/` |
//! | measure | `loadgen/`, `benches/` |
//!
//! To begin with, read an endpoint (`src/endpoints/chat.rs`, then `src/endpoints/channels.rs`) and a test: of the
//! whole server from outside (`tests/server/publish.rs`), or of cores driven by hand (`src/shard/testing.rs`).
//! `tests/hazards.rs` has the facts the design rests on.

pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod endpoints;
pub mod hooks;
pub mod hub;
pub mod limits;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod net;
pub mod proto;
pub mod server;
pub mod shard;
pub mod state;
