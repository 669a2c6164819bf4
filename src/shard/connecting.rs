//! How a Centrifuge client is let in, and how long it may stay.

use std::sync::Arc;

use bytes::Bytes;

use crate::auth::{Revocations, SubscriptionClaims, TokenError, TokenVerifier};
use crate::clock::unix_ms;
use crate::hub::{ClientInfo, Key};
use crate::metrics::CloseReason;
use crate::proto::centrifuge::filter::Filter;
use crate::proto::centrifuge::values::{
    ConnectRequest, ConnectResult, RefreshResult, SubRefreshRequest, SubRefreshResult,
    SubscribeRequest, SubscribeResult,
};
use crate::proto::centrifuge::{
    Disconnect, ErrorCode, PayloadRef, Push, PushEvent, ReplyResult, encode_push,
};

use super::Core;
use super::backend::Endpoint;
use super::client::{Connecting, Origin, Progress};
use super::commands::{Refusal, ttl_s};
use super::subscriptions::{Permit, Verdict};

/// The server's version, as clients are told.
pub(super) const VERSION: &str = concat!("longwire ", env!("CARGO_PKG_VERSION"));

/// What a shard verifies tokens with.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Connection tokens.
    pub connect: TokenVerifier,
    /// Subscription tokens.
    pub subscribe: TokenVerifier,
    /// Tokens that are good no more.
    pub revocations: Revocations,
}

/// Who connects, and what it is given.
#[derive(Default)]
pub(super) struct Admitted {
    pub user: Arc<str>,
    /// What others see of it; raw JSON or nothing.
    pub info: Bytes,
    /// For the client; raw JSON or nothing.
    pub data: Bytes,
    /// For the backend; raw JSON or nothing.
    pub meta: Bytes,
    /// Unix seconds; 0 for never.
    pub expire_at_s: i64,
    /// The client must bring a new token by then; else somebody else sees to it.
    pub refreshes: bool,
    /// The device its token was issued to.
    pub device: Option<Box<str>>,
    /// Seconds between its pings; `None` for the configured ones.
    pub ping_interval_s: Option<u16>,
    /// Subscriptions it gets without asking.
    pub subs: Vec<(String, SubscriptionClaims)>,
}

/// A client that is let in, when it has been seen to the others it has.
pub(super) struct Newcomer {
    /// The command's id.
    pub id: u32,
    pub admitted: Admitted,
    pub request: ConnectRequest,
}

/// Whether a client is let in.
enum Admission {
    /// It is.
    Granted(Box<Admitted>),
    /// The backend says.
    Ask(Endpoint),
}

impl Core {
    /// A client asks to be let in.
    pub(super) fn command_connect(
        &mut self,
        key: Key,
        id: u32,
        request: ConnectRequest,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        self.client_mut(key)?.progress = Progress::Connecting;
        self.keep_emulated_headers(key, &request);
        let done = match self.admit_client(&request) {
            Ok(Admission::Granted(admitted)) => {
                let newcomer = Newcomer {
                    id,
                    admitted: *admitted,
                    request,
                };
                self.connect(key, newcomer, out)
            }
            Ok(Admission::Ask(endpoint)) => self.ask_connect(key, id, &request, endpoint),
            Err(refusal) => Err(refusal),
        };
        if done.is_err() && !matches!(done, Err(Refusal::NeedsKeys(..))) {
            self.refuse_connect(key);
        }
        done
    }

    /// A client is not let in.
    pub(super) fn refuse_connect(&mut self, key: Key) {
        if let Ok(client) = self.client_mut(key) {
            client.progress = Progress::Refused;
        }
    }

    /// Who asks, by its token or by what the configuration allows everybody.
    fn admit_client(&self, request: &ConnectRequest) -> Result<Admission, Refusal> {
        let limits = &self.shared.config.client.limits;
        if request.token.is_empty() {
            let lets_everybody = limits.insecure || limits.allow_anonymous_connect_without_token;
            return match (self.shared.backend.on_connect(), lets_everybody) {
                (Some(endpoint), _) => Ok(Admission::Ask(endpoint)),
                (None, true) => Ok(Admission::Granted(Box::default())),
                (None, false) => Err(Disconnect::BadRequest.into()),
            };
        }
        let now_s = unix_ms() / 1000;
        let claims = match self.tokens.connect.verify_connect(&request.token, now_s) {
            Ok(claims) => claims,
            Err(TokenError::Expired) => return Err(ErrorCode::TokenExpired.into()),
            Err(error) => {
                let keys = self.shared.backend.connect_keys();
                let otherwise = Disconnect::InvalidToken.into();
                return Err(self.refuse_token(&error, keys, otherwise));
            }
        };
        let is_anonymous = claims.user.is_empty();
        if is_anonymous && limits.disallow_anonymous_connection_tokens {
            return Err(Disconnect::InvalidToken.into());
        }
        if self.tokens.revocations.is_revoked(claims.identity(), now_s) {
            return Err(Disconnect::InvalidToken.into());
        }
        Ok(Admission::Granted(Box::new(Admitted {
            user: Arc::from(claims.user),
            info: claims.info.unwrap_or_default(),
            data: Bytes::new(),
            meta: claims.meta.unwrap_or_default(),
            expire_at_s: match limits.insecure {
                true => 0,
                false => claims.expire_at_s.unwrap_or(0),
            },
            refreshes: true,
            device: claims.device.map(Box::from),
            ping_interval_s: claims.ping_interval_s,
            subs: claims.subs,
        })))
    }

    /// Lets a client in, with the subscriptions it gets without asking. It is told when they are made.
    pub(super) fn let_in(
        &mut self,
        key: Key,
        newcomer: Newcomer,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let Newcomer {
            id,
            admitted,
            request,
        } = newcomer;
        let limits = &self.shared.config.client.limits;
        let (ping_s, pong_s) = (limits.ping_interval_s, limits.pong_timeout_s);
        // The backend is asked as soon as it expires; the client has a while to bring a new token.
        let is_refreshed = self.shared.backend.on_refresh().is_some();
        let grace_s = match is_refreshed {
            true => 0,
            false => limits.expired_close_delay_s,
        };
        let expires_s = self.deadline_of(admitted.expire_at_s, grace_s);
        let subs = self.subscriptions_of(&admitted, &request);
        if subs.len() > self.shared.config.client.limits.channel_limit as usize {
            return Err(Disconnect::ChannelLimit.into());
        }
        for (request, _) in &subs {
            self.options_of(&request.channel)?;
        }
        let is_uni = self.client(key)?.is_uni;
        let client = self.client_mut(key)?;
        client.info = Arc::new(ClientInfo {
            user: admitted.user,
            conn_info: admitted.info,
            ..ClientInfo::clone(&client.info)
        });
        client.expires_s = expires_s;
        let ping_interval_s = u16::try_from(ping_s).unwrap_or(u16::MAX);
        client.ping_interval_s = admitted.ping_interval_s.unwrap_or(ping_interval_s);
        let pong_timeout_s = u16::try_from(pong_s).unwrap_or(u16::MAX);
        client.pong_timeout_s = match client.ping_interval_s {
            0 => pong_timeout_s,
            interval_s => pong_timeout_s.min(interval_s),
        };
        let mut subs = subs;
        if is_uni {
            let asked_for = self.subscriptions_asked_for(key, &subs, &request);
            subs.extend(asked_for);
        }
        let rare = self.client_mut(key)?.rare_mut();
        rare.meta = admitted.meta;
        rare.connecting = Some(Connecting {
            command: id,
            outstanding: subs.len(),
            subscribed: Vec::new(),
            data: admitted.data,
            refresh_at_s: match admitted.refreshes && !is_refreshed {
                true => admitted.expire_at_s,
                false => 0,
            },
        });
        self.note_user(key);
        self.end_older_connections(key);
        if subs.is_empty() {
            self.answer_connect(key, out);
            return Ok(());
        }
        for (request, permit) in subs {
            self.begin_server_side(key, &request, permit);
        }
        Ok(())
    }

    /// What a client gets without asking: by its token, its own channel, and for one that only listens
    /// what it asks for.
    fn subscriptions_of(
        &self,
        admitted: &Admitted,
        request: &ConnectRequest,
    ) -> Vec<(SubscribeRequest, Permit)> {
        let config = &self.shared.config;
        let mut all: Vec<(SubscribeRequest, Permit)> = Vec::new();
        for (channel, claims) in &admitted.subs {
            let permit = Permit {
                info: claims.info.clone().unwrap_or_default(),
                data: claims.data.clone().unwrap_or_default(),
                expire_at_s: 0,
                overrides: claims.overrides,
            };
            all.push((resumed(request, channel), permit));
        }
        let personal = &config.client.subscribe_to_user_personal_channel;
        if personal.enabled && !admitted.user.is_empty() {
            let channel = config
                .channel
                .personal_channel(&personal.personal_channel_namespace, &admitted.user);
            if !all.iter().any(|(sub, _)| sub.channel == channel) {
                all.push((resumed(request, &channel), Permit::default()));
            }
        }
        all
    }

    /// What a client that only listens asks for, as far as it could subscribe to it.
    fn subscriptions_asked_for(
        &self,
        key: Key,
        given: &[(SubscribeRequest, Permit)],
        request: &ConnectRequest,
    ) -> Vec<(SubscribeRequest, Permit)> {
        let most = self.shared.config.client.limits.channel_limit as usize;
        let is_given = |channel: &str| given.iter().any(|(sub, _)| sub.channel == channel);
        let asked_for = request.subs.iter();
        asked_for
            .filter(|(channel, _)| !is_given(channel))
            .filter_map(|(channel, wish)| {
                let sub = SubscribeRequest {
                    channel: channel.clone(),
                    recoverable: true,
                    ..wish.clone()
                };
                let (options, _) = self.check_subscribe(key, &sub).ok()?;
                match self.permit_subscribe(key, &sub, options) {
                    Ok(Verdict::Granted(permit)) => Some((sub, permit)),
                    // The backend gives such channels with its answer to the request to connect.
                    Ok(Verdict::Ask(_)) | Err(_) => None,
                }
            })
            .take(most.saturating_sub(given.len()))
            .collect()
    }

    fn begin_server_side(&mut self, key: Key, request: &SubscribeRequest, permit: Permit) {
        let begun = self.try_server_side(key, request, permit, Origin::Connect);
        if begun.is_err() {
            self.finish_connecting(key);
        }
    }

    /// Begins a subscription that the client did not ask for.
    pub(super) fn try_server_side(
        &mut self,
        key: Key,
        request: &SubscribeRequest,
        permit: Permit,
        origin: Origin,
    ) -> Result<(), Refusal> {
        let options = self.options_of(&request.channel)?.clone();
        let wanted = self.wanted(key, request, &options, permit, origin)?;
        let mut nothing = Vec::new();
        let is_waiting = |core: &Self| {
            let client = core.client(key);
            client.is_ok_and(|client| client.is_subscribing(&request.channel))
        };
        let filter = match request.filter.clone() {
            Some(node) => Some(Filter::compile(node).map_err(|_| ErrorCode::BadRequest)?),
            None => None,
        };
        self.begin_subscribe(key, wanted, filter, &mut nothing)?;
        if origin == Origin::Connect && !is_waiting(self) {
            self.finish_connecting(key);
        }
        Ok(())
    }

    /// One subscription less that a request to connect waits for; with the last one it is answered.
    pub(super) fn finish_connecting(&mut self, key: Key) {
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        let Some(connecting) = &mut client.rare_mut().connecting else {
            return;
        };
        connecting.outstanding = connecting.outstanding.saturating_sub(1);
        if connecting.outstanding == 0 {
            let mut out = Vec::new();
            self.answer_connect(key, &mut out);
            self.say(key, &out);
            self.release_held(key);
            self.say_id(key);
            self.obey_deferred(key);
            self.resume(key);
        }
    }

    /// Tells a client that it is let in.
    fn answer_connect(&mut self, key: Key, out: &mut Vec<u8>) {
        let now_ms = unix_ms();
        let node = self.shared.node.clone();
        let includes_time = self.shared.config.client.limits.connect_include_server_time;
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        client.progress = Progress::Connected;
        let Some(rare) = &mut client.rare else {
            return;
        };
        let Some(connecting) = rare.connecting.take() else {
            return;
        };
        let session = rare.session.clone().unwrap_or_default();
        let subs: Vec<(&str, SubscribeResult<'_>)> = connecting
            .subscribed
            .iter()
            .map(|subscribed| (&*subscribed.channel, subscribed.result(now_ms / 1000)))
            .collect();
        let info = Arc::clone(&client.info);
        let result = ConnectResult {
            client: &info.client,
            version: VERSION,
            expires: connecting.refresh_at_s != 0,
            ttl: ttl_s(connecting.refresh_at_s, now_ms / 1000),
            data: (!connecting.data.is_empty()).then(|| PayloadRef::json(&connecting.data)),
            subs: &subs,
            // Who only listens is told, whatever its pings are.
            ping: match client.pings_by_frame && !client.is_uni {
                true => 0,
                false => u32::from(client.ping_interval_s),
            },
            pong: !client.pings_by_frame && !client.is_uni && client.pong_timeout_s != 0,
            session: &session,
            node: match session.is_empty() || client.is_uni {
                true => "",
                false => &node,
            },
            time_ms: if includes_time { now_ms } else { 0 },
        };
        if client.is_uni {
            let push = Push::of_connection(PushEvent::Connect(&result));
            encode_push(out, client.format, true, &push);
        } else {
            self.reply(key, connecting.command, ReplyResult::Connect(result), out);
        }
        self.begin_heartbeat(key);
        self.trim_rare(key);
    }

    /// What came before the answer follows it.
    fn release_held(&mut self, key: Key) {
        let held = match self.client_mut(key) {
            Ok(client) => client
                .rare
                .as_mut()
                .map(|rare| std::mem::take(&mut rare.held)),
            Err(_) => None,
        };
        for frames in held.into_iter().flatten() {
            self.send(key, frames);
        }
        self.trim_rare(key);
    }

    /// Gives up the box of what few need, if nothing is in it any more.
    fn trim_rare(&mut self, key: Key) {
        if let Ok(client) = self.client_mut(key)
            && client.rare.as_ref().is_some_and(|rare| rare.is_empty())
        {
            client.rare = None;
        }
    }

    /// A client brings a new token.
    pub(super) fn command_refresh(
        &mut self,
        key: Key,
        id: u32,
        token: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        if token.is_empty() || self.shared.backend.on_refresh().is_some() {
            return Err(Disconnect::BadRequest.into());
        }
        let now_s = unix_ms() / 1000;
        let claims = match self.tokens.connect.verify_connect(token, now_s) {
            Ok(claims) => claims,
            Err(TokenError::Expired) => return Err(Disconnect::ConnectionExpired.into()),
            Err(error) => {
                let keys = self.shared.backend.connect_keys();
                let otherwise = Disconnect::InvalidToken.into();
                return Err(self.refuse_token(&error, keys, otherwise));
            }
        };
        let client = self.client(key)?;
        let is_same_user = *client.info.user == *claims.user;
        if !is_same_user || self.tokens.revocations.is_revoked(claims.identity(), now_s) {
            return Err(Disconnect::InvalidToken.into());
        }
        let expire_at_s = claims.expire_at_s.unwrap_or(0);
        let grace_s = self.shared.config.client.limits.expired_close_delay_s;
        let expires_s = self.deadline_of(expire_at_s, grace_s);
        let client = self.client_mut(key)?;
        client.expires_s = expires_s;
        if let Some(meta) = claims.meta {
            client.rare_mut().meta = meta;
        }
        self.renew_info(key, &claims.info.unwrap_or_default());
        let result = RefreshResult {
            expires: expire_at_s != 0,
            ttl: ttl_s(expire_at_s, now_s),
            ..RefreshResult::default()
        };
        self.reply(key, id, ReplyResult::Refresh(result), out);
        self.reschedule(key);
        Ok(())
    }

    /// A client brings a new token for a subscription.
    pub(super) fn command_sub_refresh(
        &mut self,
        key: Key,
        id: u32,
        request: &SubRefreshRequest,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        if request.channel.is_empty() {
            return Err(Disconnect::BadRequest.into());
        }
        let local = self.local.find(&request.channel);
        let client = self.client(key)?;
        let Some(local) = local.filter(|local| client.subscription(local.slot).is_some()) else {
            return Err(ErrorCode::PermissionDenied.into());
        };
        if self.sub_refresher(&request.channel).is_some() {
            return Err(Disconnect::BadRequest.into());
        }
        if request.token.is_empty() {
            return Err(ErrorCode::BadRequest.into());
        }
        let now_s = unix_ms() / 1000;
        let info = &client.info;
        let claims = self.tokens.subscribe.verify_subscribe(
            &request.token,
            &info.user,
            &request.channel,
            &info.client,
            now_s,
        );
        let claims = match claims {
            Ok(claims) => claims,
            Err(TokenError::Expired) => return Err(ErrorCode::TokenExpired.into()),
            Err(error) => {
                let keys = self.shared.backend.subscribe_keys();
                let otherwise = Disconnect::InvalidToken.into();
                return Err(self.refuse_token(&error, keys, otherwise));
            }
        };
        let expire_at_s = claims.expire_at_s.unwrap_or(0);
        let grace_s = self.shared.config.client.limits.expired_sub_close_delay_s;
        let expires_s = self.deadline_of(expire_at_s, grace_s);
        let info = claims.subscription.info.unwrap_or_default();
        let client = self.client_mut(key)?;
        client.renew_subscription(local.slot, expires_s, info);
        self.show_again(key, local.slot);
        let result = SubRefreshResult {
            expires: expire_at_s != 0,
            ttl: ttl_s(expire_at_s, now_s),
        };
        self.reply(key, id, ReplyResult::SubRefresh(result), out);
        self.reschedule(key);
        Ok(())
    }

    /// Until when a client that has come now must have asked to connect.
    pub(super) fn stale_deadline_s(&self) -> u32 {
        let delay_s = self.shared.config.client.limits.stale_close_delay_s;
        self.now_s().saturating_add(delay_s).saturating_add(1)
    }

    /// The moment on the shard's clock that is `grace_s` after `expire_at_s`, unix seconds; 0 for never.
    pub(super) fn deadline_of(&self, expire_at_s: i64, grace_s: u32) -> u32 {
        if expire_at_s == 0 {
            return 0;
        }
        let left_s = (expire_at_s - unix_ms() / 1000).max(0);
        let left_s = u32::try_from(left_s).unwrap_or(u32::MAX);
        self.now_s()
            .saturating_add(left_s)
            .saturating_add(grace_s)
            .saturating_add(1)
    }

    /// A client did not connect in time, or did not bring a new token in time.
    pub(super) fn expire_connection(&mut self, key: Key) {
        let is_connected = self
            .client(key)
            .is_ok_and(|client| client.progress == Progress::Connected);
        match is_connected {
            true if self.ask_refresh(key) => {}
            true => {
                self.disconnect(key, &Disconnect::ConnectionExpired, CloseReason::Expired);
            }
            false => self.disconnect(key, &Disconnect::Stale, CloseReason::Stale),
        }
    }
}

/// What a client knows of a subscription it has without asking.
fn resumed(request: &ConnectRequest, channel: &str) -> SubscribeRequest {
    let known = request.subs.get(channel).cloned().unwrap_or_default();
    SubscribeRequest {
        channel: channel.to_owned(),
        // Only where it stands is the client's to say.
        ..SubscribeRequest {
            recover: known.recover,
            epoch: known.epoch,
            offset: known.offset,
            ..SubscribeRequest::default()
        }
    }
}
