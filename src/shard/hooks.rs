//! What the backend is asked for Centrifuge clients, and what its answers lead to.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::auth::{Overrides, SubscriptionClaims};
use crate::clock::unix_s;
use crate::hooks::{CallId, HookCall, HookOutcome};
use crate::hub::{Framing, Key};
use crate::metrics::CloseReason;
use crate::proto::centrifuge::values::{
    ConnectRequest, PublishRequest, RpcRequest, SubRefreshResult, SubscribeRequest,
};
use crate::proto::centrifuge::{
    Disconnect, ErrorCode, Format, Payload, PayloadKind, PushEvent, ReplyResult,
};
use crate::proto::hooks::{
    Answer, Base64, ConnectResult, HookRequest, Override, Payload as HookPayload, PublishResult,
    RefreshResult, RpcResult, SubRefreshResult as HookSubRefreshResult, SubscribeResult, decode,
    payload,
};
use crate::proto::http::Request;

use super::Core;
use super::backend::{Endpoint, HookAnswer, number_of};
use super::client::{Awaited, Client};
use super::commands::{BackendError, Refusal, ttl_s};
use super::connecting::{Admitted, Newcomer};
use super::session::Stage;
use super::subscriptions::Permit;
use super::upgrade::{Dialogue, Upgrade};

/// How long what has expired goes on while the backend cannot be asked, before it is asked again.
const ASK_AGAIN_S: i64 = 60;
/// The longest value of a client's header that is kept, in bytes.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// What the backend was asked for a client, and what is needed to go on with its answer.
pub(super) enum Hook {
    /// Whether it may connect. The command's id.
    Connect(u32, Box<ConnectRequest>),
    /// Whether its connection goes on.
    Refresh,
    /// Whether it may subscribe. The command's id.
    Subscribe(u32, Box<SubscribeRequest>),
    /// Whether it may publish. The command's id.
    Publish(u32, Box<PublishRequest>),
    /// Whether its subscription to this channel goes on.
    SubRefresh(Arc<str>),
    /// What a call gives. The command's id.
    Rpc(u32),
}

impl Core {
    /// The headers of a request that some endpoint of the backend gets, if the request begins a Centrifuge session.
    pub(super) fn kept_headers(
        &self,
        request: &Request<'_>,
        upgrade: &Upgrade,
    ) -> Vec<(String, String)> {
        if !matches!(upgrade.dialogue, Dialogue::Centrifuge(_)) {
            return Vec::new();
        }
        let mut kept = Vec::new();
        for name in self.shared.backend.headers() {
            let values = request.headers(name);
            let texts = values.filter_map(|value| std::str::from_utf8(value).ok());
            kept.extend(texts.map(|value| (name.clone(), value.to_owned())));
        }
        kept
    }

    /// Adds headers that a client names in its request to connect, since it could not send them otherwise. What it
    /// did send goes before.
    pub(super) fn keep_emulated_headers(&mut self, key: Key, request: &ConnectRequest) {
        let known = self.shared.backend.headers();
        let named = request.headers.iter();
        let wanted: Vec<(String, String)> = named
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .filter(|(name, value)| known.contains(name) && value.len() <= HEADER_BYTES_MAX)
            .collect();
        if wanted.is_empty() {
            return;
        }
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        let kept = &mut client.rare_mut().headers;
        for (name, value) in wanted {
            if !kept.iter().any(|(known, _)| *known == name) {
                kept.push((name, value));
            }
        }
    }

    /// Asks the backend. The client waits for `hook`; of `request` only what is special to the hook need be there.
    fn ask_backend(
        &mut self,
        key: Key,
        endpoint: Endpoint,
        request: HookRequest<'_>,
        hook: Hook,
    ) -> Result<(), Refusal> {
        let client = self.client(key)?;
        let rare = client.rare.as_ref();
        let meta = rare.map_or(&[][..], |rare| &rare.meta);
        let headers = rare.map_or(Vec::new(), |rare| rare.headers.clone());
        let request = HookRequest {
            client: &client.info.client,
            transport: self.transport_of(key, client),
            protocol: match client.format {
                Format::Json => "json",
                Format::Protobuf => "protobuf",
            },
            encoding: match endpoint.is_binary {
                true => "binary",
                false => "json",
            },
            meta: (endpoint.gets_meta && !meta.is_empty()).then_some(meta),
            ..request
        };
        let body = request.to_body().map_err(|_| ErrorCode::BadRequest)?;
        let tag = self.client_mut(key)?.wait(Awaited::Hook(hook));
        let call = HookCall {
            id: CallId {
                shard: self.id,
                session: number_of(key),
                tag,
            },
            target: endpoint.target,
            body,
            headers,
            deadline_ms: u32::MAX,
        };
        if self.shared.backend.submit(call).is_err() {
            let _ = self.client_mut(key)?.take_waiting(tag);
            return Err(ErrorCode::Internal.into());
        }
        Ok(())
    }

    fn transport_of(&self, key: Key, client: &Client) -> &'static str {
        let framing = match self.stage(key) {
            Some(Stage::Stream(stream)) => stream.framing(),
            Some(Stage::Polled(_)) => Framing::SockJsItems,
            _ => Framing::WebSocket,
        };
        match (framing, client.is_uni) {
            (Framing::WebSocket, false) => "websocket",
            (Framing::WebSocket, true) => "uni_websocket",
            (Framing::Events, false) => "sse",
            (Framing::Events, true) => "uni_sse",
            (Framing::Chunks | Framing::Items, false) => "http_stream",
            (Framing::Chunks | Framing::Items, true) => "uni_http_stream",
            (Framing::SockJsWebSocket | Framing::SockJsItems, _) => "sockjs",
        }
    }

    /// Asks whether a client without a token may connect.
    pub(super) fn ask_connect(
        &mut self,
        key: Key,
        id: u32,
        request: &ConnectRequest,
        endpoint: Endpoint,
    ) -> Result<(), Refusal> {
        let channels: Vec<&str> = request.subs.keys().map(String::as_str).collect();
        let some = |text: &'_ String| !text.is_empty();
        let question = HookRequest {
            name: Some(&*request.name).filter(|_| some(&request.name)),
            version: Some(&*request.version).filter(|_| some(&request.version)),
            channels: &channels,
            data: data_for(endpoint, request.data.as_ref()),
            ..HookRequest::default()
        };
        let hook = Hook::Connect(id, Box::new(request.clone()));
        let asked = self.ask_backend(key, endpoint, question, hook);
        asked.map_err(Refusal::while_connecting)
    }

    /// Asks whether a client may subscribe.
    pub(super) fn ask_subscribe(
        &mut self,
        key: Key,
        id: u32,
        request: SubscribeRequest,
        endpoint: Endpoint,
    ) -> Result<(), Refusal> {
        let info = Arc::clone(&self.client(key)?.info);
        let hook = Hook::Subscribe(id, Box::new(request.clone()));
        let question = HookRequest {
            user: Some(&info.user),
            channel: Some(&request.channel),
            token: Some(&*request.token).filter(|token| !token.is_empty()),
            data: data_for(endpoint, request.data.as_ref()),
            ..HookRequest::default()
        };
        self.ask_backend(key, endpoint, question, hook)
    }

    /// Asks whether a client may publish.
    pub(super) fn ask_publish(
        &mut self,
        key: Key,
        id: u32,
        request: PublishRequest,
        endpoint: Endpoint,
    ) -> Result<(), Refusal> {
        let info = Arc::clone(&self.client(key)?.info);
        let hook = Hook::Publish(id, Box::new(request.clone()));
        let question = HookRequest {
            user: Some(&info.user),
            channel: Some(&request.channel),
            data: data_for(endpoint, request.data.as_ref()),
            ..HookRequest::default()
        };
        self.ask_backend(key, endpoint, question, hook)
    }

    /// Hands a call on to the backend.
    pub(super) fn command_rpc(
        &mut self,
        key: Key,
        id: u32,
        request: &RpcRequest,
    ) -> Result<(), Refusal> {
        let options = self.shared.config.rpc.resolve(&request.method);
        let backend = &self.shared.backend;
        let options = options.ok_or(match backend.takes_rpc() {
            true => ErrorCode::MethodNotFound,
            false => ErrorCode::NotAvailable,
        })?;
        let endpoint = backend.on_rpc(options.proxy_enabled, &options.proxy_name);
        let endpoint = endpoint.ok_or(ErrorCode::NotAvailable)?;
        let info = Arc::clone(&self.client(key)?.info);
        let question = HookRequest {
            user: Some(&info.user),
            method: Some(&request.method),
            data: data_for(endpoint, request.data.as_ref()),
            ..HookRequest::default()
        };
        self.ask_backend(key, endpoint, question, Hook::Rpc(id))
    }

    /// Asks whether a connection that has expired goes on. False if nobody is to be asked.
    pub(super) fn ask_refresh(&mut self, key: Key) -> bool {
        let Some(endpoint) = self.shared.backend.on_refresh() else {
            return false;
        };
        let Ok(info) = self.client(key).map(|client| Arc::clone(&client.info)) else {
            return false;
        };
        // Until then there is an answer: whoever is asked has a time-out.
        let expires_s = self.deadline_of(unix_s() + ASK_AGAIN_S, 0);
        if let Ok(client) = self.client_mut(key) {
            client.expires_s = expires_s;
        }
        let question = HookRequest {
            user: Some(&info.user),
            ..HookRequest::default()
        };
        // What could not be asked is asked again.
        let _ = self.ask_backend(key, endpoint, question, Hook::Refresh);
        true
    }

    /// Asks whether a subscription that has expired goes on. False if nobody is to be asked.
    pub(super) fn ask_sub_refresh(&mut self, key: Key, local_slot: u32) -> bool {
        let Some((_, channel)) = self.local.at_mut(local_slot) else {
            return false;
        };
        let name = Arc::clone(&channel.name);
        let Some(endpoint) = self.sub_refresher(&name) else {
            return false;
        };
        let expires_s = self.deadline_of(unix_s() + ASK_AGAIN_S, 0);
        let Ok(client) = self.client_mut(key) else {
            return false;
        };
        if let Some(subscription) = client.subscription_mut(local_slot) {
            subscription.expires_s = expires_s;
        }
        let info = Arc::clone(&client.info);
        let question = HookRequest {
            user: Some(&info.user),
            channel: Some(&name),
            ..HookRequest::default()
        };
        let hook = Hook::SubRefresh(Arc::clone(&name));
        let _ = self.ask_backend(key, endpoint, question, hook);
        true
    }

    /// Who is asked whether subscriptions to a channel go on when they expire.
    pub(super) fn sub_refresher(&self, channel: &str) -> Option<Endpoint> {
        let options = self.options_of(channel).ok()?;
        self.shared.backend.on_sub_refresh(options)
    }

    /// The backend answered, or it is known that it will not.
    pub(super) fn hook_answered(&mut self, answer: HookAnswer) {
        let HookAnswer { asker, outcome } = answer;
        let key = asker.session;
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        let Some(Awaited::Hook(hook)) = client.take_waiting(asker.tag) else {
            return;
        };
        let mut out = Vec::new();
        let (id, done) = match hook {
            Hook::Connect(id, request) => {
                let done = self.connect_answered(key, id, &request, &outcome, &mut out);
                (id, done)
            }
            Hook::Subscribe(id, request) => {
                let done = self.subscribe_answered(key, id, &request, &outcome, &mut out);
                (id, done)
            }
            Hook::Publish(id, request) => {
                let done = self.publish_answered(key, id, *request, &outcome, &mut out);
                (id, done)
            }
            Hook::Rpc(id) => (id, self.rpc_answered(key, id, &outcome, &mut out)),
            Hook::Refresh => return self.refresh_answered(key, &outcome),
            Hook::SubRefresh(channel) => {
                return self.sub_refresh_answered(key, &channel, &outcome);
            }
        };
        self.conclude_later(key, id, done, out);
    }

    fn connect_answered(
        &mut self,
        key: Key,
        id: u32,
        request: &ConnectRequest,
        outcome: &HookOutcome,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let done = match admitted(outcome) {
            Ok(admitted) => {
                let newcomer = Newcomer {
                    id,
                    admitted,
                    request: request.clone(),
                };
                self.connect(key, newcomer, out)
            }
            Err(refusal) => Err(refusal.while_connecting()),
        };
        if done.is_err() {
            self.refuse_connect(key);
        }
        done
    }

    fn subscribe_answered(
        &mut self,
        key: Key,
        id: u32,
        request: &SubscribeRequest,
        outcome: &HookOutcome,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let result: SubscribeResult = verdict(outcome)?;
        check_expiry(result.expire_at)?;
        let permit = Permit {
            info: json_of(&result.info, &result.b64info)?,
            data: json_of(&result.data, &result.b64data)?,
            expire_at_s: result.expire_at,
            overrides: overrides_of(result.overrides),
        };
        self.subscribe_permitted(key, id, request, permit, out)
    }

    fn publish_answered(
        &mut self,
        key: Key,
        id: u32,
        mut request: PublishRequest,
        outcome: &HookOutcome,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let result: PublishResult = verdict(outcome)?;
        if let Some(data) = payload_of(&result.data, &result.b64data)? {
            request.data = Some(data);
        }
        self.publish_permitted(key, id, request, result.skip_history, out)
    }

    fn rpc_answered(
        &mut self,
        key: Key,
        id: u32,
        outcome: &HookOutcome,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let result: RpcResult = verdict(outcome)?;
        let data = payload_of(&result.data, &result.b64data)?;
        let data = data.as_ref().map(Payload::as_ref);
        self.reply(key, id, ReplyResult::Rpc(data), out);
        Ok(())
    }

    fn refresh_answered(&mut self, key: Key, outcome: &HookOutcome) {
        let result: RefreshResult = match verdict(outcome) {
            Ok(result) => result,
            Err(Refusal::Ends(disconnect)) => {
                return self.disconnect(key, &disconnect, CloseReason::of(&disconnect));
            }
            // It goes on for a while; then the backend is asked again.
            Err(_) => return self.resume(key),
        };
        if result.expired || check_expiry(result.expire_at).is_err() {
            let disconnect = Disconnect::ConnectionExpired;
            return self.disconnect(key, &disconnect, CloseReason::Expired);
        }
        let info = json_of(&result.info, &result.b64info).unwrap_or_default();
        let expires_s = self.deadline_of(result.expire_at, 0);
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        client.expires_s = expires_s;
        if let Some(meta) = &result.meta {
            client.rare_mut().meta = bytes_of(meta);
        }
        self.renew_info(key, &info);
        let refresh = SubRefreshResult {
            expires: result.expire_at != 0,
            ttl: ttl_s(result.expire_at, unix_s()),
        };
        self.push(key, "", PushEvent::Refresh(refresh));
        self.resume(key);
        self.reschedule(key);
    }

    fn sub_refresh_answered(&mut self, key: Key, channel: &str, outcome: &HookOutcome) {
        let result: HookSubRefreshResult = match verdict(outcome) {
            Ok(result) => result,
            Err(Refusal::Ends(disconnect)) => {
                return self.disconnect(key, &disconnect, CloseReason::of(&disconnect));
            }
            Err(_) => return self.resume(key),
        };
        let Some(local) = self.local.find(channel) else {
            return self.resume(key);
        };
        if result.expired || check_expiry(result.expire_at).is_err() {
            self.end_expired(key, local.slot);
            return self.resume(key);
        }
        let info = json_of(&result.info, &result.b64info).unwrap_or_default();
        let expires_s = self.deadline_of(result.expire_at, 0);
        if let Ok(client) = self.client_mut(key) {
            client.renew_subscription(local.slot, expires_s, info);
            self.show_again(key, local.slot);
        }
        self.resume(key);
        self.reschedule(key);
    }
}

/// What the backend decided. Where it could not, the client may try again.
fn verdict<R: serde::de::DeserializeOwned + Default>(outcome: &HookOutcome) -> Result<R, Refusal> {
    let HookOutcome::Response { status, body } = outcome else {
        return Err(ErrorCode::Internal.into());
    };
    match decode(*status, body) {
        Ok(Answer::Result(result)) => Ok(result),
        Ok(Answer::Error {
            code,
            message,
            temporary,
        }) => Err(Refusal::Backend(Box::new(BackendError {
            code,
            message: message.into(),
            temporary,
        }))),
        Ok(Answer::Disconnect { code, reason }) => {
            let code = u16::try_from(code).map_err(|_| ErrorCode::Internal)?;
            Err(Disconnect::custom(code, &reason).into())
        }
        Err(_) => Err(ErrorCode::Internal.into()),
    }
}

/// Whom the backend lets in.
fn admitted(outcome: &HookOutcome) -> Result<Admitted, Refusal> {
    let result: ConnectResult = verdict(outcome)?;
    check_expiry(result.expire_at)?;
    let mut subs = Vec::new();
    for (channel, options) in &result.subs {
        let claims = SubscriptionClaims {
            info: Some(json_of(&options.info, &options.b64info)?),
            data: Some(json_of(&options.data, &options.b64data)?),
            overrides: overrides_of(options.overrides),
        };
        subs.push((channel.clone(), claims));
    }
    for channel in result.channels {
        if !subs.iter().any(|(known, _)| *known == channel) {
            subs.push((channel, SubscriptionClaims::default()));
        }
    }
    Ok(Admitted {
        user: Arc::from(result.user),
        info: json_of(&result.info, &result.b64info)?,
        data: json_of(&result.data, &result.b64data)?,
        meta: result.meta.as_deref().map_or(Bytes::new(), bytes_of),
        expire_at_s: result.expire_at,
        refreshes: true,
        device: None,
        ping_interval_s: None,
        subs,
    })
}

fn check_expiry(expire_at_s: i64) -> Result<(), Refusal> {
    match expire_at_s != 0 && expire_at_s <= unix_s() {
        true => Err(ErrorCode::Expired.into()),
        false => Ok(()),
    }
}

fn overrides_of(overrides: Option<Override>) -> Overrides {
    let given = overrides.unwrap_or_default();
    Overrides {
        presence: given.presence.map(|switch| switch.value),
        join_leave: given.join_leave.map(|switch| switch.value),
        force_push_join_leave: given.force_push_join_leave.map(|switch| switch.value),
        force_recovery: given.force_recovery.map(|switch| switch.value),
        force_positioning: given.force_positioning.map(|switch| switch.value),
    }
}

/// A payload for a client's command.
fn data_for(endpoint: Endpoint, data: Option<&Payload>) -> HookPayload<'_> {
    match data {
        None => HookPayload::None,
        Some(data) if endpoint.is_binary => HookPayload::Binary(&data.bytes),
        Some(data) => HookPayload::Json(&data.bytes),
    }
}

fn bytes_of(json: &RawValue) -> Bytes {
    Bytes::copy_from_slice(json.get().as_bytes())
}

/// What the backend gives for a client, of any kind; nothing if it is `null`.
fn payload_of(
    json: &Option<Box<RawValue>>,
    base64: &Option<Base64>,
) -> Result<Option<Payload>, Refusal> {
    let given = payload(json, base64).map(Payload::classify);
    let is_too_deep = |data: &Payload| base64.is_none() && !matches!(data.kind, PayloadKind::Json);
    match given {
        Some(data) if is_too_deep(&data) => Err(ErrorCode::Internal.into()),
        Some(data) => Ok(Some(data)),
        None => Ok(None),
    }
}

/// What goes into messages of all formats, and so must be JSON in any case; empty if there is nothing.
fn json_of(json: &Option<Box<RawValue>>, base64: &Option<Base64>) -> Result<Bytes, Refusal> {
    match payload(json, base64) {
        None => Ok(Bytes::new()),
        Some(bytes) => match Payload::json(bytes) {
            Some(data) => Ok(data.bytes),
            None => Err(ErrorCode::Internal.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ChannelOptions, Config};
    use crate::proto::frame::Opcode;
    use crate::shard::client::Progress;
    use crate::shard::inbox::Asker;
    use crate::shard::testing::with_cores;

    fn response(body: &str) -> HookOutcome {
        HookOutcome::Response {
            status: 200,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[test]
    fn channels_with_options_go_before_the_same_without() {
        let outcome = response(
            r#"{"result":{"user":"u","channels":["a","b"],"subs":{"b":{"info":{"x":1}}}}}"#,
        );
        let admitted = admitted(&outcome).ok().unwrap();
        let names: Vec<&str> = admitted.subs.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["b", "a"]);
        assert_eq!(admitted.subs[0].1.info.as_deref(), Some(&br#"{"x":1}"#[..]));
    }

    #[test]
    fn what_would_break_messages_of_json_is_not_taken() {
        let binary = response(r#"{"result":{"b64info":"AP8="}}"#);
        assert!(matches!(
            admitted(&binary),
            Err(Refusal::Error(ErrorCode::Internal))
        ));
        let deep = format!("{}1{}", "[".repeat(101), "]".repeat(101));
        let deep = response(&format!(r#"{{"result":{{"data":{deep}}}}}"#));
        assert!(matches!(
            admitted(&deep),
            Err(Refusal::Error(ErrorCode::Internal))
        ));
    }

    #[test]
    fn what_has_expired_already_is_refused() {
        let outcome = response(r#"{"result":{"user":"u","expire_at":1}}"#);
        assert!(matches!(
            admitted(&outcome),
            Err(Refusal::Error(ErrorCode::Expired))
        ));
    }

    /// What a client is told that sends `commands` while the queue to the hooks' thread is full.
    fn told(commands: &str) -> (u8, String) {
        let mut told = None;
        let mut config = Config::default();
        config.client.proxy.connect.enabled = true;
        config.client.proxy.connect.proxy.endpoint = "http://127.0.0.1:1/".to_owned();
        config.client.token.hmac_secret_key = "secret".to_owned();
        config.rpc.proxy.endpoint = "http://127.0.0.1:1/".to_owned();
        config.rpc.without_namespace.proxy_enabled = true;
        with_cores(1, config, |bed| {
            let mut client = bed.websocket(0, "/connection/websocket");
            let key = client.key;
            if let Ok(client) = bed.cores[0].client_mut(key)
                && !commands.contains("connect")
            {
                client.progress = Progress::Connected;
            }
            bed.cores[0].receive_commands(key, Opcode::Text, commands.as_bytes());
            let (opcode, payload) = client.frame();
            told = Some((opcode, String::from_utf8_lossy(&payload).into_owned()));
            let waits = bed.cores[0].client(key).map(|client| client.waiting.len());
            assert_eq!(waits.unwrap_or(0), 0);
        });
        told.unwrap()
    }

    #[test]
    fn who_leaves_before_the_backend_lets_it_in_leaves_afterwards() {
        let mut config = Config::default();
        config.channel.without_namespace = ChannelOptions::default();
        with_cores(1, config, |bed| {
            let mut client = bed.websocket(0, "/connection/websocket");
            let key = client.key;
            let core = &mut bed.cores[0];
            let waiting = core.client_mut(key).ok().unwrap();
            waiting.progress = Progress::Connected;
            let request = SubscribeRequest {
                channel: "a".to_owned(),
                ..SubscribeRequest::default()
            };
            let tag = waiting.wait(Awaited::Hook(Hook::Subscribe(2, Box::new(request))));
            let unsubscribe = br#"{"id":3,"unsubscribe":{"channel":"a"}}"#;
            core.receive_commands(key, Opcode::Text, unsubscribe);
            assert!(!client.has_bytes());
            let asker = Asker { session: key, tag };
            let outcome = response(r#"{"result":{}}"#);
            bed.cores[0].hook_answered(HookAnswer { asker, outcome });
            assert_eq!(client.message(), br#"{"id":2,"subscribe":{}}"#);
            assert_eq!(client.message(), br#"{"id":3,"unsubscribe":{}}"#);
            assert_eq!(bed.cores[0].metrics.subscriptions.get(), 0);
        });
    }

    #[test]
    fn a_full_queue_is_answered_at_once() {
        let (_, reply) = told(r#"{"id":2,"rpc":{"method":"a"}}"#);
        assert!(reply.contains(r#""code":100"#), "{reply}");
        let (opcode, close) = told(r#"{"id":1,"connect":{}}"#);
        assert_eq!(opcode & 0x0f, 8);
        assert!(close.contains("internal server error"), "{close}");
    }
}
