//! Subscribing, publishing, passes and messages between two shards in random order, against what must hold
//! whatever the order: every subscription gets contiguous offsets from the position it was told, what was
//! recovered comes before what is live, nothing comes twice, and every offset is one publication.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use super::inbox::Asker;
use super::testing::{Bed, Client, with_cores};
use super::{Core, Submission, Submitted};
use crate::config::Config;
use crate::hub::{Key, Kind};
use crate::proto::frame::{Opcode, encode_masked_frame};

const SHARDS: usize = 2;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
enum Step {
    /// Publish on a shard.
    Publish(usize),
    /// A client connects to a shard, recovering if it was there before.
    Come { client: usize, shard: usize },
    /// A client's connection breaks.
    Go(usize),
    /// A shard handles one message.
    Handle(usize),
    /// A shard makes one send.
    Send(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..SHARDS).prop_map(Step::Publish),
        2 => (0..4usize, 0..SHARDS).prop_map(|(client, shard)| Step::Come { client, shard }),
        1 => (0..4usize).prop_map(Step::Go),
        6 => (0..SHARDS).prop_map(Step::Handle),
        6 => (0..SHARDS).prop_map(Step::Send),
    ];
    prop::collection::vec(step, 1..120)
}

/// A client and all it has ever heard.
#[derive(Default)]
struct Listener {
    connection: Option<Client>,
    unread: Vec<u8>,
    account: Account,
}

impl Listener {
    fn come(&mut self, bed: &mut Bed, shard: usize, channel: &str) {
        let mut client = bed.connect(shard);
        let request = super::testing::upgrade("/connection/websocket");
        bed.say(&mut client, request.as_bytes());
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        let commands = self.account.come(channel);
        let mut frame = Vec::new();
        encode_masked_frame(&mut frame, Opcode::Text, [1, 2, 3, 4], commands.as_bytes());
        bed.say(&mut client, &frame);
        client.socket.set_nonblocking(true).unwrap();
        self.unread.clear();
        self.connection = Some(client);
    }

    /// Reads what has come, and checks it.
    fn read(&mut self, heard: &mut Heard) {
        let Some(client) = &mut self.connection else {
            return;
        };
        let mut buffer = [0; 4096];
        while let Ok(read) = client.socket.read(&mut buffer) {
            if read == 0 {
                break;
            }
            self.unread.extend_from_slice(&buffer[..read]);
        }
        while let Some(payload) = take_frame(&mut self.unread) {
            self.account
                .hear(&String::from_utf8(payload).unwrap(), heard);
        }
    }

    /// Reads until it has everything, which may be a little on its way.
    fn read_up_to(&mut self, top: u64, heard: &mut Heard) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.read(heard);
            if self.account.has_all(top) {
                return;
            }
            let known = &self.account.position;
            assert!(Instant::now() < deadline, "{known:?} of {top}");
            std::thread::yield_now();
        }
    }
}

/// Where a client believes itself to be in one channel; what it hears is held against that.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// The epoch and the newest offset it knows.
    position: Option<(String, u64)>,
    is_subscribed: bool,
}

impl Account {
    /// The commands of a client that comes, or comes back and recovers.
    pub fn come(&mut self, channel: &str) -> String {
        self.is_subscribed = false;
        let position = match &self.position {
            Some((epoch, offset)) => {
                format!(",\"recover\":true,\"epoch\":\"{epoch}\",\"offset\":{offset}")
            }
            None => String::new(),
        };
        format!(
            "{{\"id\":1,\"connect\":{{}}}}\n{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"{position}}}}}"
        )
    }

    /// Whether it is subscribed and has everything.
    pub fn has_all(&self, top: u64) -> bool {
        let known = self.position.as_ref().map(|(_, offset)| *offset);
        self.is_subscribed && known == Some(top)
    }

    /// It hears a message, of several lines perhaps.
    pub fn hear(&mut self, message: &str, heard: &mut Heard) {
        for line in message.lines() {
            self.hear_line(&serde_json::from_str(line).unwrap(), heard);
        }
    }

    fn hear_line(&mut self, message: &Value, heard: &mut Heard) {
        if let Some(result) = message.get("subscribe") {
            self.subscribed(result, heard);
        } else if let Some(publication) = message.pointer("/push/pub") {
            assert!(self.is_subscribed, "a push before the reply");
            self.publication(publication, heard);
        } else {
            assert!(message.get("error").is_none(), "{message}");
        }
    }

    fn subscribed(&mut self, result: &Value, heard: &mut Heard) {
        self.is_subscribed = true;
        let epoch = result["epoch"].as_str().unwrap().to_owned();
        let offset = result["offset"].as_u64().unwrap_or(0);
        let recovered = result["recovered"].as_bool().unwrap_or(false);
        if let Some((known_epoch, known)) = &self.position {
            assert!(recovered, "the history holds all there is: {result}");
            assert_eq!((known_epoch, *known), (&epoch, offset));
        }
        self.position = Some((epoch, offset));
        for publication in result["publications"].as_array().into_iter().flatten() {
            self.publication(publication, heard);
        }
    }

    fn publication(&mut self, publication: &Value, heard: &mut Heard) {
        let offset = publication["offset"].as_u64().unwrap();
        let (_, known) = self.position.as_mut().unwrap();
        assert_eq!(offset, *known + 1, "a gap or a duplicate");
        *known = offset;
        let number = publication["data"].as_u64().unwrap();
        assert_eq!(*heard.entry(offset).or_insert(number), number);
    }
}

/// Which publication has which offset, as clients heard it.
pub(super) type Heard = BTreeMap<u64, u64>;

fn take_frame(unread: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (head, length) = match *unread.get(1)? {
        126 => (
            4,
            usize::from(u16::from_be_bytes([*unread.get(2)?, *unread.get(3)?])),
        ),
        short => (2, usize::from(short)),
    };
    if unread.len() < head + length {
        return None;
    }
    let frame: Vec<u8> = unread.drain(..head + length).collect();
    Some(frame[head..].to_vec())
}

/// Publishes a number. False if it is refused at once.
pub(super) fn publish(core: &mut Core, channel: &str, number: u64) -> bool {
    let submission = Submission {
        channel: Arc::from(channel),
        kind: Kind::Json,
        data: Bytes::from(number.to_string()),
        options: None,
    };
    let nobody = Asker {
        session: Key {
            slot: u32::MAX,
            generation: 0,
        },
        tag: 0,
    };
    let submitted = core.publish(submission, nobody);
    !matches!(submitted, Submitted::Done(Err(_)))
}

fn handle_one(bed: &mut Bed, shard: usize) -> bool {
    match bed.inboxes[shard].pop() {
        Some((from, message)) => {
            bed.cores[shard].handle(from, message);
            true
        }
        None => false,
    }
}

fn run(steps: &[Step], owner: u16) {
    let mut config = Config::default();
    config.fanout.slice_sends = 1;
    config.client.limits.ping_interval_s = 0;
    with_cores(SHARDS, config, |bed| {
        let channel = bed.channel_of(owner);
        let mut listeners: HashMap<usize, Listener> = HashMap::new();
        let (mut heard, mut published) = (Heard::new(), 0);
        for step in steps {
            match step {
                Step::Publish(shard) => {
                    published += u64::from(publish(&mut bed.cores[*shard], &channel, published));
                }
                Step::Come { client, shard } => {
                    let listener = listeners.entry(*client).or_default();
                    if listener.connection.is_none() {
                        listener.come(bed, *shard, &channel);
                    }
                }
                Step::Go(client) => {
                    let listener = listeners.entry(*client).or_default();
                    listener.read(&mut heard);
                    if let Some(connection) = listener.connection.take() {
                        let (shard, key) = (connection.shard, connection.key);
                        connection.reset();
                        bed.receive_at(shard, key);
                    }
                }
                Step::Handle(shard) => {
                    handle_one(bed, *shard);
                }
                Step::Send(shard) => {
                    bed.cores[*shard].fan_out();
                }
            }
            for listener in listeners.values_mut() {
                listener.read(&mut heard);
            }
        }
        settle(bed);
        for listener in listeners.values_mut() {
            if listener.connection.is_some() {
                listener.read_up_to(published, &mut heard);
            }
        }
    });
}

/// Lets everything that is under way come to its end.
fn settle(bed: &mut Bed) {
    let mut is_busy = true;
    while is_busy {
        is_busy = false;
        for shard in 0..SHARDS {
            is_busy |= handle_one(bed, shard);
            is_busy |= bed.cores[shard].fan_out();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn whatever_the_order_nothing_is_lost_doubled_or_mixed_up(steps in steps(), owner in 0..2u16) {
        run(&steps, owner);
    }
}
