//! What may be done in a channel, and what the server keeps of it: the options of `channel.without_namespace` and of
//! each of `channel.namespaces`.

use super::row::{Setting, field_of, group, key_of, settings_at};
use super::value::{Field, Form, Item, Kind, Pattern, TimeUnit, Value, choice};

/// Longest history of a channel, in publications.
const MAX_HISTORY_SIZE: u64 = 1_000_000;
/// Ten years, in hours, would not fit 32 bits of milliseconds but does fit seconds.
const MAX_TTL_S: u64 = 315_360_000;

const fn ttl(max_s: u64) -> Kind {
    Kind::Duration {
        unit: TimeUnit::Seconds,
        min: 0,
        max: max_s,
    }
}

macro_rules! channel_option_rows {
    ($callback:ident $($args:tt)*) => { $callback! { [$($args)*]
        /// Keeps who is subscribed, for `presence` and `presence_stats`.
        presence: bool = false, Kind::Flag;
        /// Time a client whose connection was lost is still shown as present, and its leave is not told, rounded up to whole seconds; one that is back by then with the same device in its token was never away. 0s = none.
        presence_grace_s "presence_grace": u32 = 0, ttl(3_600);
        /// Tells subscribers that ask for it who comes and goes.
        join_leave: bool = false, Kind::Flag;
        /// Tells all subscribers who comes and goes, with `join_leave`.
        force_push_join_leave: bool = false, Kind::Flag;
        /// Publications kept per channel; 0 = no history.
        history_size: usize = 0, Kind::Number { unit: super::Unit::Count, min: 0, max: MAX_HISTORY_SIZE };
        /// Time a publication is kept, rounded up to whole seconds; 0s = no history.
        history_ttl_s "history_ttl": u32 = 0, ttl(MAX_TTL_S);
        /// Time the epoch and the newest offset of a channel are kept after its last publication; 0s = `channel.history_meta_ttl`.
        history_meta_ttl_s "history_meta_ttl": u32 = 0, ttl(MAX_TTL_S);
        /// Gives every subscription a position, so that a gap is noticed.
        force_positioning: bool = false, Kind::Flag;
        /// Gives a position to subscriptions that ask for it.
        allow_positioning: bool = false, Kind::Flag;
        /// Lets every subscription recover what it missed from history.
        force_recovery: bool = false, Kind::Flag;
        /// Lets subscriptions that ask for it recover what they missed from history.
        allow_recovery: bool = false, Kind::Flag;
        /// Recovers all that was missed, or only the newest publication.
        force_recovery_mode: RecoveryMode = RecoveryMode::Stream, Kind::Choice(RecoveryMode::NAMES);
        /// In mode `cache`, sends the newest publication on every subscribe.
        auto_cache_recover: bool = false, Kind::Flag;
        /// Any user may subscribe.
        allow_subscribe_for_client: bool = false, Kind::Flag;
        /// With `allow_subscribe_for_client`, also clients without a user.
        allow_subscribe_for_anonymous: bool = false, Kind::Flag;
        /// Any user may publish.
        allow_publish_for_client: bool = false, Kind::Flag;
        /// Any subscriber may publish.
        allow_publish_for_subscriber: bool = false, Kind::Flag;
        /// With either of the two, also clients without a user.
        allow_publish_for_anonymous: bool = false, Kind::Flag;
        /// Any user may ask for the presence.
        allow_presence_for_client: bool = false, Kind::Flag;
        /// Any subscriber may ask for the presence.
        allow_presence_for_subscriber: bool = false, Kind::Flag;
        /// With either of the two, also clients without a user.
        allow_presence_for_anonymous: bool = false, Kind::Flag;
        /// Any user may read the history.
        allow_history_for_client: bool = false, Kind::Flag;
        /// Any subscriber may read the history.
        allow_history_for_subscriber: bool = false, Kind::Flag;
        /// With either of the two, also clients without a user.
        allow_history_for_anonymous: bool = false, Kind::Flag;
        /// The users listed in a channel's name may subscribe, as in `news#42,43`.
        allow_user_limited_channels: bool = false, Kind::Flag;
        /// What the name after the namespace must match, anywhere in it; without it, names are ASCII.
        channel_regex: Pattern = Pattern::default(), Kind::Text(Form::Regex);
        /// Ways to send differences that subscribers may ask for.
        allowed_delta_types: Vec<DeltaType> = Vec::new(), Kind::List(Item::DeltaType);
        /// Makes differences for every publication, not only where the publisher asks.
        delta_publish: bool = false, Kind::Flag;
        /// Subscribers may filter publications by their tags; who does gets no differences.
        allow_tags_filter: bool = false, Kind::Flag;
        /// What data clients may publish; nothing = `channel.publication_data_format`.
        publication_data_format: DataFormat = DataFormat::Any, Kind::Choice(DataFormat::NAMES);
        /// Asks the backend whether a client may subscribe.
        subscribe_proxy_enabled: bool = false, Kind::Flag;
        /// Which of `proxies` to ask; `default` = `channel.proxy.subscribe`.
        subscribe_proxy_name: String = DEFAULT_PROXY.to_owned(), Kind::Text(Form::Name);
        /// Asks the backend whether a client may publish.
        publish_proxy_enabled: bool = false, Kind::Flag;
        /// Which of `proxies` to ask; `default` = `channel.proxy.publish`.
        publish_proxy_name: String = DEFAULT_PROXY.to_owned(), Kind::Text(Form::Name);
        /// Asks the backend whether a subscription goes on when it expires.
        sub_refresh_proxy_enabled: bool = false, Kind::Flag;
        /// Which of `proxies` to ask; `default` = `channel.proxy.sub_refresh`.
        sub_refresh_proxy_name: String = DEFAULT_PROXY.to_owned(), Kind::Text(Form::Name);
        /// What happens to a subscriber that reads too slowly: it is closed, or loses the oldest or all but the newest publications waiting for it.
        slow_reader: SlowReader = SlowReader::Disconnect, Kind::Choice(SlowReader::NAMES);
        /// Tag whose value is a key: `keep_newest` keeps the newest publication of each key; nothing = the newest of all.
        conflate_by: String = String::new(), Kind::Text(Form::Any);
        /// Longest time between pings on connections of the plain dialect; 0s = `heartbeat.ping_interval_ms`.
        ping_interval_s "ping_interval": u32 = 0, ttl(3_600);
        /// Time to wait after such a ping; 0s = `heartbeat.pong_timeout_ms`.
        pong_timeout_s "pong_timeout": u32 = 0, ttl(3_600);
    } };
}

/// The name that stands for the proxy configured beside the options.
pub const DEFAULT_PROXY: &str = "default";

channel_option_rows!(group
    /// What may be done in a channel, and what the server keeps of it.
    ChannelOptions
);

/// `channel.without_namespace.*`.
pub(super) const WITHOUT_NAMESPACE: &[Setting] =
    channel_option_rows!(settings_at "channel.without_namespace" (channel.without_namespace));

choice! {
    /// What a subscription gets back after a break.
    RecoveryMode {
        /// All publications it missed.
        Stream = "stream",
        /// The newest publication.
        Cache = "cache",
    }
}

choice! {
    /// What data clients may publish.
    DataFormat {
        /// As the wider setting says; with none, anything.
        Any = "",
        /// JSON.
        Json = "json",
        /// A JSON object.
        JsonObject = "json_object",
        /// Bytes, which need not be JSON.
        Binary = "binary",
    }
}

choice! {
    /// What happens to a subscriber that reads too slowly.
    SlowReader {
        /// Its connection is closed.
        Disconnect = "disconnect",
        /// The oldest publications waiting for it are dropped.
        DropOldest = "drop_oldest",
        /// All publications waiting for it but the newest are dropped.
        KeepNewest = "keep_newest",
    }
}

choice! {
    /// A way to send differences between publications.
    DeltaType {
        /// Fossil's delta format.
        Fossil = "fossil",
    }
}

impl Field for Vec<DeltaType> {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::List(items) => items
                .iter()
                .map(|item| DeltaType::read(&Value::Text(item.clone())))
                .collect(),
            _ => Err("wrong type".to_owned()),
        }
    }

    fn write(&self) -> Value {
        let word = |kind: &DeltaType| match kind {
            DeltaType::Fossil => "fossil".to_owned(),
        };
        Value::List(self.iter().map(word).collect())
    }
}

impl ChannelOptions {
    /// What holds where nothing is configured: anybody may subscribe, read the history and resume from it.
    pub fn development() -> Self {
        Self {
            history_size: 100,
            history_ttl_s: 300,
            force_recovery: true,
            allow_subscribe_for_client: true,
            allow_subscribe_for_anonymous: true,
            allow_history_for_client: true,
            allow_history_for_anonymous: true,
            ..Self::default()
        }
    }

    /// Whether publications are kept.
    pub fn has_history(&self) -> bool {
        self.history_size > 0 && self.history_ttl_s > 0
    }

    /// Whether subscribers may ask for differences in Fossil's format.
    pub fn allows_fossil(&self) -> bool {
        self.allowed_delta_types.contains(&DeltaType::Fossil)
    }
}
