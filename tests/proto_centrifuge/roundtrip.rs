//! Drawn messages, written by one implementation and read by the other, in both formats.

use std::collections::BTreeMap;

use bytes::Bytes;
use longwire::proto::centrifuge::values::{
    ChannelRequest, ConnectResult, FilterNode, HistoryRequest, HistoryResult, PresenceStats,
    PublishRequest, RefreshRequest, RefreshResult, ReplyError, RpcRequest, SendRequest,
    StreamPosition, SubRefreshRequest, SubRefreshResult, SubscribePush, SubscribeRequest,
    SubscribeResult, Tag,
};
use longwire::proto::centrifuge::{
    ChannelRef, ClientInfoRef, Command, Commands, ConnectRequest, Disconnect, EmulationRequest,
    Format, Method, Payload, PayloadRef, PublicationRef, Push, PushEvent, Reply, ReplyResult,
    append_recovered, decode_connect_request, decode_emulation_request, encode_publication_push,
    encode_push, encode_reply,
};
use proptest::prelude::*;
use prost::Message;
use serde::de::DeserializeOwned;

use super::model;

proptest! {
    #[test]
    fn commands_are_read_as_they_were_written(seed in any::<u64>()) {
        let mut draw = Draw(fastrand::Rng::with_seed(seed));
        let commands: Vec<Command> = draw.list(Draw::command);
        prop_assume!(!commands.is_empty());
        let (mut json, mut protobuf) = (Vec::new(), Vec::new());
        for command in &commands {
            let model = command_model(command);
            serde_json::to_writer(&mut json, &model).unwrap();
            json.push(b'\n');
            model.encode_length_delimited(&mut protobuf).unwrap();
        }
        for (format, frame) in [(Format::Json, &json), (Format::Protobuf, &protobuf)] {
            let read: Result<Vec<Command>, _> = Commands::new(format, frame, 9).collect();
            prop_assert_eq!(read.as_ref(), Ok(&commands));
        }
    }

    #[test]
    fn connect_requests_are_read_bare(seed in any::<u64>()) {
        let request = Draw(fastrand::Rng::with_seed(seed)).connect_request();
        let model = connect_model(&request);
        let json = serde_json::to_vec(&model).unwrap();
        prop_assert_eq!(decode_connect_request(Format::Json, &json), Ok(request.clone()));
        let protobuf = model.encode_to_vec();
        prop_assert_eq!(decode_connect_request(Format::Protobuf, &protobuf), Ok(request));
    }

    #[test]
    fn emulation_requests_are_read(node in any::<String>(), session in any::<String>(), data in any::<String>()) {
        let json = serde_json::json!({ "node": node, "session": session, "data": data }).to_string();
        let model = model::EmulationRequest {
            node: node.clone(),
            session: session.clone(),
            data: data.clone().into_bytes(),
        };
        let request = EmulationRequest { node, session, data: Bytes::from(data) };
        let read = decode_emulation_request(Format::Json, json.as_bytes());
        prop_assert_eq!(read, Ok(request.clone()));
        let read = decode_emulation_request(Format::Protobuf, &model.encode_to_vec());
        prop_assert_eq!(read, Ok(request));
    }

    #[test]
    fn replies_are_written_as_they_are_read(seed in any::<u64>()) {
        let reply = Draw(fastrand::Rng::with_seed(seed)).reply();
        let model = reply_model(&reply);
        let encode = |format| {
            let mut out = Vec::new();
            encode_reply(&mut out, format, &reply);
            out
        };
        prop_assert_eq!(read_json::<model::Reply>(&encode(Format::Json)), model.clone());
        let protobuf = model::Reply::decode_length_delimited(&*encode(Format::Protobuf));
        prop_assert_eq!(protobuf, Ok(model));
    }

    #[test]
    fn what_was_recovered_may_be_written_before_its_reply(seed in any::<u64>()) {
        let mut draw = Draw(fastrand::Rng::with_seed(seed));
        let (result, publications) = (draw.subscribe_result(), draw.publications());
        let mut model = reply_model(&Reply { id: 1, result: ReplyResult::Subscribe(result) });
        if let Some(subscribe) = &mut model.subscribe {
            subscribe.publications = publications.iter().map(publication_model).collect();
        }
        let encode = |format| {
            let mut written = Vec::new();
            for publication in publications {
                append_recovered(&mut written, format, publication);
            }
            let result = SubscribeResult { publications: &written, ..result };
            let mut out = Vec::new();
            encode_reply(&mut out, format, &Reply { id: 1, result: ReplyResult::Subscribe(result) });
            out
        };
        prop_assert_eq!(read_json::<model::Reply>(&encode(Format::Json)), model.clone());
        let protobuf = encode(Format::Protobuf);
        prop_assert_eq!(&protobuf, &model.encode_length_delimited_to_vec());
        prop_assert_eq!(model::Reply::decode_length_delimited(&*protobuf), Ok(model));
    }

    #[test]
    fn pushes_are_written_as_they_are_read(seed in any::<u64>()) {
        let push = Draw(fastrand::Rng::with_seed(seed)).push();
        let bare = push_model(&push);
        let encode = |format, unidirectional| {
            let mut out = Vec::new();
            encode_push(&mut out, format, unidirectional, &push);
            out
        };
        let model = model::Reply { push: Some(bare.clone()), ..model::Reply::default() };
        prop_assert_eq!(read_json::<model::Reply>(&encode(Format::Json, false)), model.clone());
        prop_assert_eq!(read_json::<model::Push>(&encode(Format::Json, true)), bare.clone());
        let protobuf = model::Reply::decode_length_delimited(&*encode(Format::Protobuf, false));
        prop_assert_eq!(protobuf, Ok(model));
        let protobuf = model::Push::decode_length_delimited(&*encode(Format::Protobuf, true));
        prop_assert_eq!(protobuf, Ok(bare));
    }

    #[test]
    fn publications_are_written_byte_for_byte_as_by_prost(seed in any::<u64>()) {
        let mut draw = Draw(fastrand::Rng::with_seed(seed));
        let (channel, publication) = (draw.channel(), draw.publication());
        let event = PushEvent::Publication(&publication);
        let bare = push_model(&Push { channel, event });
        let mut out = Vec::new();
        encode_publication_push(&mut out, Format::Protobuf, false, channel, &publication);
        let model = model::Reply { push: Some(bare), ..model::Reply::default() };
        prop_assert_eq!(out, model.encode_length_delimited_to_vec());
    }

    #[test]
    fn noise_is_refused_or_read_but_never_more(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        for format in [Format::Json, Format::Protobuf] {
            let read = Commands::new(format, &bytes, 5).count();
            prop_assert!((1..=6).contains(&read));
        }
    }
}

#[test]
fn what_is_nested_too_deep_is_refused() {
    let nested = (0..200).fold(model::FilterNode::default(), |node, _| model::FilterNode {
        nodes: vec![node],
        ..model::FilterNode::default()
    });
    let mut command = command_model(&Command {
        id: 1,
        method: Method::Subscribe(Box::default()),
    });
    command.subscribe.as_mut().unwrap().tf = Some(nested);
    let protobuf = command.encode_length_delimited_to_vec();
    let brackets = "[".repeat(30_000) + &"]".repeat(30_000);
    let frames = [
        (Format::Json, serde_json::to_vec(&command).unwrap()),
        (Format::Protobuf, protobuf),
        (
            Format::Json,
            format!(r#"{{"id":1,"rpc":{{"data":{brackets}}}}}"#).into_bytes(),
        ),
    ];
    for (format, frame) in frames {
        let read: Vec<_> = Commands::new(format, &frame, 5).collect();
        assert!(read.len() == 1 && read[0].is_err());
    }
}

fn read_json<T: DeserializeOwned>(line: &[u8]) -> T {
    assert!(!line.contains(&b'\n'));
    serde_json::from_slice(line).unwrap()
}

/// Draws values. What borrows, borrows for ever: a test's memory may leak.
struct Draw(fastrand::Rng);

impl Draw {
    fn flag(&mut self) -> bool {
        self.0.bool()
    }

    fn number(&mut self) -> u64 {
        let bits = self.0.u32(0..=64);
        self.0.u64(..).checked_shr(bits).unwrap_or(0)
    }

    fn small(&mut self) -> u32 {
        self.number() as u32
    }

    fn text(&mut self) -> &'static str {
        let letters = ['a', ':', '"', '\\', '\n', '\0', 'é', '\u{2028}', '😀'];
        let len = self.0.usize(..5);
        let text: String = (0..len)
            .map(|_| letters[self.0.usize(..letters.len())])
            .collect();
        text.leak()
    }

    fn json(&mut self) -> &'static str {
        let long = || format!("\"{}\"", "x".repeat(300)).leak();
        match self.0.u8(..7) {
            0 => "null",
            1 => "{}",
            2 => r#"{"a":[1,2.50,"\n",{}],"b":null}"#,
            3 => "\"\\u00e9é\"",
            4 => "-12e3",
            5 => long(),
            _ => "[]",
        }
    }

    fn maybe<T>(&mut self, mut draw: impl FnMut(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| draw(self))
    }

    fn list<T>(&mut self, mut draw: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let len = self.0.usize(..4);
        (0..len).map(|_| draw(self)).collect()
    }

    fn payload(&mut self) -> Option<Payload> {
        self.maybe(|draw| Payload::json(Bytes::from(draw.json())).unwrap())
    }

    fn borrowed(&mut self) -> Option<PayloadRef<'static>> {
        self.maybe(|draw| PayloadRef::json(draw.json().as_bytes()))
    }

    fn command(&mut self) -> Command {
        let method = match self.0.u8(..13) {
            0 => return command(0, Method::Pong),
            1 => Method::Unknown,
            2 => Method::Connect(Box::new(self.connect_request())),
            3 => Method::Subscribe(Box::new(self.subscribe_request())),
            4 => Method::Unsubscribe(self.channel_request()),
            5 => Method::Publish(PublishRequest {
                channel: self.text().to_owned(),
                data: self.payload(),
                kind: self.small() as i32,
            }),
            6 => Method::Presence(self.channel_request()),
            7 => Method::PresenceStats(self.channel_request()),
            8 => Method::History(self.history_request()),
            9 => Method::Ping,
            10 => Method::Rpc(RpcRequest {
                data: self.payload(),
                method: self.text().to_owned(),
            }),
            11 => Method::Refresh(RefreshRequest {
                token: self.text().to_owned(),
            }),
            _ if self.flag() => Method::SubRefresh(SubRefreshRequest {
                channel: self.text().to_owned(),
                token: self.text().to_owned(),
                kind: self.small() as i32,
            }),
            _ => {
                let data = self.payload();
                return command(self.small(), Method::Send(SendRequest { data }));
            }
        };
        command(self.small().max(1), method)
    }

    fn connect_request(&mut self) -> ConnectRequest {
        let subs = self.list(|draw| (draw.text().to_owned(), draw.subscribe_request()));
        let headers = self.list(|draw| (draw.text().to_owned(), draw.text().to_owned()));
        ConnectRequest {
            token: self.text().to_owned(),
            data: self.payload(),
            subs: subs.into_iter().collect(),
            name: self.text().to_owned(),
            version: self.text().to_owned(),
            headers: headers.into_iter().collect(),
            flag: self.number() as i64,
        }
    }

    fn subscribe_request(&mut self) -> SubscribeRequest {
        SubscribeRequest {
            channel: self.text().to_owned(),
            token: self.text().to_owned(),
            recover: self.flag(),
            epoch: self.text().to_owned(),
            offset: self.number(),
            data: self.payload(),
            positioned: self.flag(),
            recoverable: self.flag(),
            join_leave: self.flag(),
            delta: self.text().to_owned(),
            filter: self.maybe(|draw| draw.filter_node(3)),
            flag: self.number() as i64,
            kind: self.small() as i32,
        }
    }

    fn filter_node(&mut self, depth: u32) -> FilterNode {
        FilterNode {
            op: self.text().to_owned(),
            key: self.text().to_owned(),
            cmp: self.text().to_owned(),
            val: self.text().to_owned(),
            vals: self.list(|draw| draw.text().to_owned()),
            nodes: match depth {
                0 => Vec::new(),
                _ => self.list(|draw| draw.filter_node(depth - 1)),
            },
        }
    }

    fn channel_request(&mut self) -> ChannelRequest {
        let channel = self.text().to_owned();
        ChannelRequest { channel }
    }

    fn history_request(&mut self) -> HistoryRequest {
        HistoryRequest {
            channel: self.text().to_owned(),
            limit: self.small() as i32,
            since: self.maybe(|draw| StreamPosition {
                offset: draw.number(),
                epoch: draw.text().to_owned(),
            }),
            reverse: self.flag(),
        }
    }

    fn info(&mut self) -> ClientInfoRef<'static> {
        ClientInfoRef {
            user: self.text(),
            client: self.text(),
            conn_info: self.borrowed(),
            chan_info: self.borrowed(),
        }
    }

    fn publication(&mut self) -> PublicationRef<'static> {
        // In order, and none of them empty: so prost writes them.
        let tag = |number: usize| -> Tag {
            let name = format!("tag {number}").into();
            (name, format!("\"{number}\"").into())
        };
        let tags: Vec<Tag> = (0..self.0.usize(..3)).map(tag).collect();
        PublicationRef {
            data: PayloadRef::json(self.json().as_bytes()),
            info: self.maybe(Self::info),
            offset: self.number(),
            tags: tags.leak(),
            delta: self.flag(),
            time_ms: self.number() as i64,
        }
    }

    fn publications(&mut self) -> &'static [PublicationRef<'static>] {
        self.list(Self::publication).leak()
    }

    fn subscribe_result(&mut self) -> SubscribeResult<'static> {
        SubscribeResult {
            expires: self.flag(),
            ttl: self.small(),
            recoverable: self.flag(),
            epoch: self.text(),
            publications: &[],
            recovered: self.flag(),
            offset: self.number(),
            positioned: self.flag(),
            data: self.borrowed(),
            was_recovering: self.flag(),
            delta: self.flag(),
            id: self.number() as i64,
        }
    }

    fn connect_result(&mut self) -> ConnectResult<'static> {
        let subs: BTreeMap<_, _> = self
            .list(|draw| (draw.text(), draw.subscribe_result()))
            .into_iter()
            .collect();
        ConnectResult {
            client: self.text(),
            version: self.text(),
            expires: self.flag(),
            ttl: self.small(),
            data: self.borrowed(),
            subs: subs.into_iter().collect::<Vec<_>>().leak(),
            ping: self.small(),
            pong: self.flag(),
            session: self.text(),
            node: self.text(),
            time_ms: self.number() as i64,
        }
    }

    fn expiry(&mut self) -> SubRefreshResult {
        SubRefreshResult {
            expires: self.flag(),
            ttl: self.small(),
        }
    }

    fn reply(&mut self) -> Reply<'static> {
        let result = match self.0.u8(..11) {
            0 => ReplyResult::Error(ReplyError {
                code: self.small(),
                message: self.text(),
                temporary: self.flag(),
            }),
            1 => ReplyResult::Connect(self.connect_result()),
            2 => ReplyResult::Subscribe(self.subscribe_result()),
            3 => ReplyResult::Unsubscribe,
            4 => ReplyResult::Publish,
            5 => {
                let clients = self.list(Self::info).into_iter();
                let clients: BTreeMap<_, _> = clients.map(|info| (info.client, info)).collect();
                ReplyResult::Presence(clients.into_values().collect::<Vec<_>>().leak())
            }
            6 => ReplyResult::PresenceStats(PresenceStats {
                num_clients: self.small(),
                num_users: self.small(),
            }),
            7 => ReplyResult::History(HistoryResult {
                publications: self.publications(),
                epoch: self.text(),
                offset: self.number(),
            }),
            8 => ReplyResult::Rpc(self.borrowed()),
            9 => ReplyResult::Refresh(RefreshResult {
                client: self.text(),
                version: self.text(),
                expires: self.flag(),
                ttl: self.small(),
            }),
            _ => ReplyResult::SubRefresh(self.expiry()),
        };
        let id = self.small();
        Reply { id, result }
    }

    fn channel(&mut self) -> ChannelRef<'static> {
        match self.flag() {
            true => ChannelRef::Name(self.text()),
            false => ChannelRef::Id(self.number() as i64),
        }
    }

    fn push(&mut self) -> Push<'static> {
        let channel = self.channel();
        let event = match self.0.u8(..9) {
            0 => PushEvent::Publication(Box::leak(Box::new(self.publication()))),
            1 => PushEvent::Join(Box::leak(Box::new(self.info()))),
            2 => PushEvent::Leave(Box::leak(Box::new(self.info()))),
            3 => PushEvent::Unsubscribe {
                code: self.small(),
                reason: self.text(),
            },
            4 => PushEvent::Subscribe(SubscribePush {
                recoverable: self.flag(),
                epoch: self.text(),
                offset: self.number(),
                positioned: self.flag(),
                data: self.borrowed(),
            }),
            5 => PushEvent::Message(PayloadRef::json(self.json().as_bytes())),
            6 => PushEvent::Connect(Box::leak(Box::new(self.connect_result()))),
            7 => {
                let disconnect = Disconnect::custom(self.0.u16(..), self.text());
                PushEvent::Disconnect(Box::leak(Box::new(disconnect)))
            }
            _ => PushEvent::Refresh(self.expiry()),
        };
        Push { channel, event }
    }
}

fn command(id: u32, method: Method) -> Command {
    Command { id, method }
}

fn bytes(payload: &Option<Payload>) -> Vec<u8> {
    let bytes = payload.as_ref().map(|payload| payload.bytes.to_vec());
    bytes.unwrap_or_default()
}

fn borrowed_bytes(payload: Option<PayloadRef<'_>>) -> Vec<u8> {
    let bytes = payload.map(|payload| payload.bytes.to_vec());
    bytes.unwrap_or_default()
}

fn command_model(command: &Command) -> model::Command {
    let mut model = model::Command {
        id: command.id,
        ..model::Command::default()
    };
    match &command.method {
        Method::Pong | Method::Unknown => {}
        Method::Connect(request) => model.connect = Some(connect_model(request)),
        Method::Subscribe(request) => model.subscribe = Some(subscribe_model(request)),
        Method::Unsubscribe(request) => model.unsubscribe = Some(channel_model(request)),
        Method::Publish(request) => {
            model.publish = Some(model::PublishRequest {
                channel: request.channel.clone(),
                data: bytes(&request.data),
                r#type: request.kind,
            });
        }
        Method::Presence(request) => model.presence = Some(channel_model(request)),
        Method::PresenceStats(request) => model.presence_stats = Some(channel_model(request)),
        Method::History(request) => {
            model.history = Some(model::HistoryRequest {
                channel: request.channel.clone(),
                limit: request.limit,
                since: request.since.as_ref().map(|since| model::StreamPosition {
                    offset: since.offset,
                    epoch: since.epoch.clone(),
                }),
                reverse: request.reverse,
            });
        }
        Method::Ping => model.ping = Some(model::Empty {}),
        Method::Send(request) => {
            let data = bytes(&request.data);
            model.send = Some(model::Data { data });
        }
        Method::Rpc(request) => {
            model.rpc = Some(model::RpcRequest {
                data: bytes(&request.data),
                method: request.method.clone(),
            });
        }
        Method::Refresh(request) => {
            let token = request.token.clone();
            model.refresh = Some(model::RefreshRequest { token });
        }
        Method::SubRefresh(request) => {
            model.sub_refresh = Some(model::SubRefreshRequest {
                channel: request.channel.clone(),
                token: request.token.clone(),
                r#type: request.kind,
            });
        }
    }
    model
}

fn connect_model(request: &ConnectRequest) -> model::ConnectRequest {
    let subs = request.subs.iter();
    model::ConnectRequest {
        token: request.token.clone(),
        data: bytes(&request.data),
        subs: subs
            .map(|(channel, sub)| (channel.clone(), subscribe_model(sub)))
            .collect(),
        name: request.name.clone(),
        version: request.version.clone(),
        headers: request.headers.clone(),
        flag: request.flag,
    }
}

fn subscribe_model(request: &SubscribeRequest) -> model::SubscribeRequest {
    model::SubscribeRequest {
        channel: request.channel.clone(),
        token: request.token.clone(),
        recover: request.recover,
        epoch: request.epoch.clone(),
        offset: request.offset,
        data: bytes(&request.data),
        positioned: request.positioned,
        recoverable: request.recoverable,
        join_leave: request.join_leave,
        delta: request.delta.clone(),
        tf: request.filter.as_ref().map(filter_model),
        flag: request.flag,
        r#type: request.kind,
    }
}

fn filter_model(node: &FilterNode) -> model::FilterNode {
    model::FilterNode {
        op: node.op.clone(),
        key: node.key.clone(),
        cmp: node.cmp.clone(),
        val: node.val.clone(),
        vals: node.vals.clone(),
        nodes: node.nodes.iter().map(filter_model).collect(),
    }
}

fn channel_model(request: &ChannelRequest) -> model::ChannelRequest {
    let channel = request.channel.clone();
    model::ChannelRequest { channel }
}

fn info_model(info: &ClientInfoRef<'_>) -> model::ClientInfo {
    model::ClientInfo {
        user: info.user.to_owned(),
        client: info.client.to_owned(),
        conn_info: borrowed_bytes(info.conn_info),
        chan_info: borrowed_bytes(info.chan_info),
    }
}

fn publication_model(publication: &PublicationRef<'_>) -> model::Publication {
    let tags = publication.tags.iter();
    model::Publication {
        data: publication.data.bytes.to_vec(),
        info: publication.info.as_ref().map(info_model),
        offset: publication.offset,
        tags: tags
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        delta: publication.delta,
        time: publication.time_ms,
    }
}

fn subscribed_model(result: &SubscribeResult<'_>) -> model::SubscribeResult {
    model::SubscribeResult {
        expires: result.expires,
        ttl: result.ttl,
        recoverable: result.recoverable,
        epoch: result.epoch.to_owned(),
        publications: Vec::new(),
        recovered: result.recovered,
        offset: result.offset,
        positioned: result.positioned,
        data: borrowed_bytes(result.data),
        was_recovering: result.was_recovering,
        delta: result.delta,
        id: result.id,
    }
}

fn subs_model(result: &ConnectResult<'_>) -> BTreeMap<String, model::SubscribeResult> {
    let subs = result.subs.iter();
    subs.map(|(channel, sub)| ((*channel).to_owned(), subscribed_model(sub)))
        .collect()
}

fn expiry_model(result: &SubRefreshResult) -> model::Expiry {
    model::Expiry {
        expires: result.expires,
        ttl: result.ttl,
    }
}

fn reply_model(reply: &Reply<'_>) -> model::Reply {
    let mut model = model::Reply {
        id: reply.id,
        ..model::Reply::default()
    };
    match &reply.result {
        ReplyResult::Error(error) => {
            model.error = Some(model::Error {
                code: error.code,
                message: error.message.to_owned(),
                temporary: error.temporary,
            });
        }
        ReplyResult::Connect(result) => {
            model.connect = Some(model::ConnectResult {
                client: result.client.to_owned(),
                version: result.version.to_owned(),
                expires: result.expires,
                ttl: result.ttl,
                data: borrowed_bytes(result.data),
                subs: subs_model(result),
                ping: result.ping,
                pong: result.pong,
                session: result.session.to_owned(),
                node: result.node.to_owned(),
                time: result.time_ms,
            });
        }
        ReplyResult::Subscribe(result) => model.subscribe = Some(subscribed_model(result)),
        ReplyResult::Unsubscribe => model.unsubscribe = Some(model::Empty {}),
        ReplyResult::Publish => model.publish = Some(model::Empty {}),
        ReplyResult::Presence(clients) => {
            let clients = clients.iter();
            let presence = clients.map(|info| (info.client.to_owned(), info_model(info)));
            let presence = presence.collect();
            model.presence = Some(model::PresenceResult { presence });
        }
        ReplyResult::PresenceStats(stats) => {
            model.presence_stats = Some(model::PresenceStatsResult {
                num_clients: stats.num_clients,
                num_users: stats.num_users,
            });
        }
        ReplyResult::History(result) => {
            model.history = Some(model::HistoryResult {
                publications: result.publications.iter().map(publication_model).collect(),
                epoch: result.epoch.to_owned(),
                offset: result.offset,
            });
        }
        ReplyResult::Rpc(data) => {
            let data = borrowed_bytes(*data);
            model.rpc = Some(model::Data { data });
        }
        ReplyResult::Refresh(result) => {
            model.refresh = Some(model::RefreshResult {
                client: result.client.to_owned(),
                version: result.version.to_owned(),
                expires: result.expires,
                ttl: result.ttl,
            });
        }
        ReplyResult::SubRefresh(result) => model.sub_refresh = Some(expiry_model(result)),
    }
    model
}

fn push_model(push: &Push<'_>) -> model::Push {
    let mut model = model::Push::default();
    match push.channel {
        ChannelRef::Name(name) => model.channel = name.to_owned(),
        ChannelRef::Id(id) => model.id = id,
    }
    let info = |info| model::Info {
        info: Some(info_model(info)),
    };
    match push.event {
        PushEvent::Publication(publication) => model.r#pub = Some(publication_model(publication)),
        PushEvent::Join(joined) => model.join = Some(info(joined)),
        PushEvent::Leave(left) => model.leave = Some(info(left)),
        PushEvent::Unsubscribe { code, reason } => {
            let reason = reason.to_owned();
            model.unsubscribe = Some(model::Ended { code, reason });
        }
        PushEvent::Subscribe(subscribe) => {
            model.subscribe = Some(model::Subscribe {
                recoverable: subscribe.recoverable,
                epoch: subscribe.epoch.to_owned(),
                offset: subscribe.offset,
                positioned: subscribe.positioned,
                data: borrowed_bytes(subscribe.data),
            });
        }
        PushEvent::Message(data) => {
            let data = data.bytes.to_vec();
            model.message = Some(model::Data { data });
        }
        PushEvent::Connect(result) => {
            model.connect = Some(model::Connect {
                client: result.client.to_owned(),
                version: result.version.to_owned(),
                data: borrowed_bytes(result.data),
                subs: subs_model(result),
                expires: result.expires,
                ttl: result.ttl,
                ping: result.ping,
                pong: result.pong,
                session: result.session.to_owned(),
                node: result.node.to_owned(),
                time: result.time_ms,
            });
        }
        PushEvent::Disconnect(disconnect) => {
            model.disconnect = Some(model::Disconnect {
                code: disconnect.code().into(),
                reason: disconnect.reason().to_owned(),
            });
        }
        PushEvent::Refresh(refresh) => model.refresh = Some(expiry_model(&refresh)),
    }
    model
}
