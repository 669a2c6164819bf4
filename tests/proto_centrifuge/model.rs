//! The schema again, as derives alone read and write it. In JSON, bytes are embedded JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bytes as embedded JSON.
mod raw {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::value::RawValue;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let json: &RawValue = serde_json::from_slice(bytes).unwrap();
        json.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?;
        Ok(json.get().as_bytes().to_vec())
    }
}

/// Messages: number, type, name. The type is one of prost's, or another message.
macro_rules! messages {
    ($($name:ident { $($tag:literal $kind:ident $field:ident $([$message:ident])?,)* })*) => {
        $(messages!(@struct $name [] $($tag $kind $field $([$message])?,)*);)*
    };
    (@struct $name:ident [$($done:tt)*]) => {
        #[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($done)* }
    };
    (@struct $name:ident [$($done:tt)*] $tag:literal message $field:ident [$message:ident], $($rest:tt)*) => {
        messages!(@struct $name [$($done)*
            #[prost(message, optional, tag = $tag)]
            #[serde(skip_serializing_if = "Option::is_none")]
            pub $field: Option<$message>,] $($rest)*);
    };
    (@struct $name:ident [$($done:tt)*] $tag:literal repeated $field:ident [$message:ident], $($rest:tt)*) => {
        messages!(@struct $name [$($done)*
            #[prost(message, repeated, tag = $tag)]
            pub $field: Vec<$message>,] $($rest)*);
    };
    (@struct $name:ident [$($done:tt)*] $tag:literal map $field:ident [$message:ident], $($rest:tt)*) => {
        messages!(@struct $name [$($done)*
            #[prost(btree_map = "string, message", tag = $tag)]
            pub $field: BTreeMap<String, $message>,] $($rest)*);
    };
    (@struct $name:ident [$($done:tt)*] $tag:literal strings $field:ident, $($rest:tt)*) => {
        messages!(@struct $name [$($done)*
            #[prost(string, repeated, tag = $tag)]
            pub $field: Vec<String>,] $($rest)*);
    };
    (@struct $name:ident [$($done:tt)*] $tag:literal pairs $field:ident, $($rest:tt)*) => {
        messages!(@struct $name [$($done)*
            #[prost(btree_map = "string, string", tag = $tag)]
            pub $field: BTreeMap<String, String>,] $($rest)*);
    };
    (@struct $name:ident [$($done:tt)*] $tag:literal bytes $field:ident, $($rest:tt)*) => {
        messages!(@struct $name [$($done)*
            #[prost(bytes = "vec", tag = $tag)]
            #[serde(with = "raw", skip_serializing_if = "Vec::is_empty")]
            pub $field: Vec<u8>,] $($rest)*);
    };
    (@struct $name:ident [$($done:tt)*] $tag:literal string $field:ident, $($rest:tt)*) => {
        messages!(@struct $name [$($done)* #[prost(string, tag = $tag)] pub $field: String,] $($rest)*);
    };
    (@struct $name:ident [$($done:tt)*] $tag:literal bool $field:ident, $($rest:tt)*) => {
        messages!(@struct $name [$($done)* #[prost(bool, tag = $tag)] pub $field: bool,] $($rest)*);
    };
    (@struct $name:ident [$($done:tt)*] $tag:literal uint32 $field:ident, $($rest:tt)*) => {
        messages!(@struct $name [$($done)* #[prost(uint32, tag = $tag)] pub $field: u32,] $($rest)*);
    };
    (@struct $name:ident [$($done:tt)*] $tag:literal uint64 $field:ident, $($rest:tt)*) => {
        messages!(@struct $name [$($done)* #[prost(uint64, tag = $tag)] pub $field: u64,] $($rest)*);
    };
    (@struct $name:ident [$($done:tt)*] $tag:literal int32 $field:ident, $($rest:tt)*) => {
        messages!(@struct $name [$($done)* #[prost(int32, tag = $tag)] pub $field: i32,] $($rest)*);
    };
    (@struct $name:ident [$($done:tt)*] $tag:literal int64 $field:ident, $($rest:tt)*) => {
        messages!(@struct $name [$($done)* #[prost(int64, tag = $tag)] pub $field: i64,] $($rest)*);
    };
}

messages! {
    Command {
        1 uint32 id,
        4 message connect [ConnectRequest],
        5 message subscribe [SubscribeRequest],
        6 message unsubscribe [ChannelRequest],
        7 message publish [PublishRequest],
        8 message presence [ChannelRequest],
        9 message presence_stats [ChannelRequest],
        10 message history [HistoryRequest],
        11 message ping [Empty],
        12 message send [Data],
        13 message rpc [RpcRequest],
        14 message refresh [RefreshRequest],
        15 message sub_refresh [SubRefreshRequest],
    }
    ConnectRequest {
        1 string token,
        2 bytes data,
        3 map subs [SubscribeRequest],
        4 string name,
        5 string version,
        6 pairs headers,
        7 int64 flag,
    }
    SubscribeRequest {
        1 string channel,
        2 string token,
        3 bool recover,
        6 string epoch,
        7 uint64 offset,
        8 bytes data,
        9 bool positioned,
        10 bool recoverable,
        11 bool join_leave,
        12 string delta,
        13 message tf [FilterNode],
        14 int64 flag,
        15 int32 r#type,
    }
    FilterNode {
        1 string op,
        2 string key,
        3 string cmp,
        4 string val,
        5 strings vals,
        6 repeated nodes [FilterNode],
    }
    ChannelRequest { 1 string channel, }
    PublishRequest { 1 string channel, 2 bytes data, 3 int32 r#type, }
    HistoryRequest {
        1 string channel,
        7 int32 limit,
        8 message since [StreamPosition],
        9 bool reverse,
    }
    StreamPosition { 1 uint64 offset, 2 string epoch, }
    RpcRequest { 1 bytes data, 2 string method, }
    RefreshRequest { 1 string token, }
    SubRefreshRequest { 1 string channel, 2 string token, 3 int32 r#type, }
    EmulationRequest { 1 string node, 2 string session, 3 bytes data, }
    Empty {}
    Data { 1 bytes data, }

    Reply {
        1 uint32 id,
        2 message error [Error],
        4 message push [Push],
        5 message connect [ConnectResult],
        6 message subscribe [SubscribeResult],
        7 message unsubscribe [Empty],
        8 message publish [Empty],
        9 message presence [PresenceResult],
        10 message presence_stats [PresenceStatsResult],
        11 message history [HistoryResult],
        12 message ping [Empty],
        13 message rpc [Data],
        14 message refresh [RefreshResult],
        15 message sub_refresh [Expiry],
    }
    Error { 1 uint32 code, 2 string message, 3 bool temporary, }
    ConnectResult {
        1 string client,
        2 string version,
        3 bool expires,
        4 uint32 ttl,
        5 bytes data,
        6 map subs [SubscribeResult],
        7 uint32 ping,
        8 bool pong,
        9 string session,
        10 string node,
        11 int64 time,
    }
    SubscribeResult {
        1 bool expires,
        2 uint32 ttl,
        3 bool recoverable,
        6 string epoch,
        7 repeated publications [Publication],
        8 bool recovered,
        9 uint64 offset,
        10 bool positioned,
        11 bytes data,
        12 bool was_recovering,
        13 bool delta,
        14 int64 id,
    }
    PresenceResult { 1 map presence [ClientInfo], }
    PresenceStatsResult { 1 uint32 num_clients, 2 uint32 num_users, }
    HistoryResult { 1 repeated publications [Publication], 2 string epoch, 3 uint64 offset, }
    RefreshResult { 1 string client, 2 string version, 3 bool expires, 4 uint32 ttl, }
    Expiry { 1 bool expires, 2 uint32 ttl, }

    Push {
        1 int64 id,
        2 string channel,
        4 message r#pub [Publication],
        5 message join [Info],
        6 message leave [Info],
        7 message unsubscribe [Ended],
        8 message message [Data],
        9 message subscribe [Subscribe],
        10 message connect [Connect],
        11 message disconnect [Disconnect],
        12 message refresh [Expiry],
    }
    Publication {
        4 bytes data,
        5 message info [ClientInfo],
        6 uint64 offset,
        7 pairs tags,
        8 bool delta,
        9 int64 time,
    }
    ClientInfo { 1 string user, 2 string client, 3 bytes conn_info, 4 bytes chan_info, }
    Info { 1 message info [ClientInfo], }
    Ended { 2 uint32 code, 3 string reason, }
    Subscribe {
        1 bool recoverable,
        4 string epoch,
        5 uint64 offset,
        6 bool positioned,
        7 bytes data,
    }
    Connect {
        1 string client,
        2 string version,
        3 bytes data,
        4 map subs [SubscribeResult],
        5 bool expires,
        6 uint32 ttl,
        7 uint32 ping,
        8 bool pong,
        9 string session,
        10 string node,
        11 int64 time,
    }
    Disconnect { 1 uint32 code, 2 string reason, }
}
