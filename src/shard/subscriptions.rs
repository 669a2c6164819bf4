//! Subscriptions of Centrifuge clients: who may have one, and how it comes to be.

use std::sync::Arc;

use bytes::Bytes;

use crate::auth::{Overrides, TokenError};
use crate::clock::unix_ms;
use crate::config::{ChannelOptions, RecoveryMode};
use crate::hub::{ClientInfo, Dialect, Encoding, Key, Position, Recovery, Selection, Since};
use crate::metrics::CloseReason;
use crate::proto::centrifuge::filter::Filter;
use crate::proto::centrifuge::values::SubscribeRequest;
use crate::proto::centrifuge::{Disconnect, ErrorCode, Format, ReplyResult, UnsubscribeCode};

use super::Core;
use super::asks::{Departure, Presence, RecoveryWish};
use super::backend::Endpoint;
use super::channels::Hearing;
use super::client::{Awaited, Client, ClientSubscription, Origin, Subscribed, Wanted, WantedFlags};
use super::commands::Refusal;
use super::inbox::Asker;
use super::places::has_ids;

/// What a token, the backend or the configuration says of a subscription that may be.
#[derive(Default)]
pub(super) struct Permit {
    /// What others see of it; raw JSON or nothing.
    pub info: Bytes,
    /// For the client; raw JSON or nothing.
    pub data: Bytes,
    /// Unix seconds; 0 for never.
    pub expire_at_s: i64,
    /// Options of the channel that are different for it.
    pub overrides: Overrides,
}

/// Whether a client may subscribe.
pub(super) enum Verdict {
    /// It may.
    Granted(Permit),
    /// The backend says.
    Ask(Endpoint),
}

impl Core {
    /// A client wants to subscribe. Its reply comes now or later, in any case before the first push.
    pub(super) fn command_subscribe(
        &mut self,
        key: Key,
        id: u32,
        request: SubscribeRequest,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let (options, filter) = self.check_subscribe(key, &request)?;
        match self.permit_subscribe(key, &request, options)? {
            Verdict::Ask(endpoint) => self.ask_subscribe(key, id, request, endpoint),
            Verdict::Granted(permit) => {
                let origin = Origin::Command(id);
                let wanted = self.wanted(key, &request, options, permit, origin)?;
                self.begin_subscribe(key, wanted, filter, out)
            }
        }
    }

    /// Subscribes a client that the backend allows it.
    pub(super) fn subscribe_permitted(
        &mut self,
        key: Key,
        id: u32,
        request: &SubscribeRequest,
        permit: Permit,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let (options, filter) = self.check_subscribe(key, request)?;
        let origin = Origin::Command(id);
        let wanted = self.wanted(key, request, options, permit, origin)?;
        self.begin_subscribe(key, wanted, filter, out)
    }

    /// Checks all but the right to subscribe.
    pub(super) fn check_subscribe(
        &self,
        key: Key,
        request: &SubscribeRequest,
    ) -> Result<(&ChannelOptions, Option<Filter>), Refusal> {
        let name = request.channel.as_str();
        if name.is_empty() || !matches!(request.delta.as_str(), "" | "fossil") {
            return Err(Disconnect::BadRequest.into());
        }
        let config = &self.shared.config;
        if name.len() > config.channel.naming.max_length {
            return Err(ErrorCode::BadRequest.into());
        }
        let client = self.client(key)?;
        if self.is_subscribed(client, name) {
            return Err(ErrorCode::AlreadySubscribed.into());
        }
        let channels = client.subscriptions.len() + client.subscribing().count();
        if channels >= config.client.limits.channel_limit as usize {
            return Err(ErrorCode::LimitExceeded.into());
        }
        let options = self.options_of(name)?;
        config
            .channel
            .check_name(name, options)
            .map_err(|_| ErrorCode::BadRequest)?;
        if request.kind != 0 {
            // Kinds of subscription this server does not have.
            return Err(ErrorCode::NotAvailable.into());
        }
        let filter = match &request.filter {
            None => None,
            Some(_) if !options.allow_tags_filter => return Err(ErrorCode::BadRequest.into()),
            Some(node) => Some(Filter::compile(node.clone()).map_err(|_| ErrorCode::BadRequest)?),
        };
        Ok((options, filter))
    }

    /// The options of a channel.
    pub(super) fn options_of(&self, name: &str) -> Result<&ChannelOptions, Refusal> {
        let options = self.shared.config.channel.resolve(name);
        options.map_err(|_| ErrorCode::UnknownChannel.into())
    }

    fn is_subscribed(&self, client: &Client, name: &str) -> bool {
        let local = self.local.find(name);
        client.is_subscribing(name)
            || local.is_some_and(|local| client.subscription(local.slot).is_some())
    }

    /// Whether a client may subscribe, by its token, by its user or by what the options allow everybody.
    pub(super) fn permit_subscribe(
        &self,
        key: Key,
        request: &SubscribeRequest,
        options: &ChannelOptions,
    ) -> Result<Verdict, Refusal> {
        let name = request.channel.as_str();
        let client = self.client(key)?;
        if !request.token.is_empty() {
            return self.permit_by_token(client, request).map(Verdict::Granted);
        }
        let config = &self.shared.config;
        let is_limited =
            options.allow_user_limited_channels && config.channel.is_user_limited(name);
        if !is_limited
            && !config.channel.is_private(name)
            && let Some(endpoint) = self.shared.backend.on_subscribe(options)
        {
            return Ok(Verdict::Ask(endpoint));
        }
        match self.may_subscribe(name, &client.info.user, options) {
            true => Ok(Verdict::Granted(Permit::default())),
            false => Err(ErrorCode::PermissionDenied.into()),
        }
    }

    /// Whether `user`, or if that is empty nobody in particular, may subscribe without a token for it.
    pub(super) fn may_subscribe(&self, name: &str, user: &str, options: &ChannelOptions) -> bool {
        let config = &self.shared.config;
        if config.channel.is_private(name) {
            return false;
        }
        if config.client.limits.insecure {
            return true;
        }
        if options.allow_user_limited_channels && config.channel.is_user_limited(name) {
            return config.channel.lists_user(name, user);
        }
        if self.shared.backend.on_subscribe(options).is_some() {
            // The backend alone says who may, and a listener of the plain dialect does not wait for it.
            return false;
        }
        options.allow_subscribe_for_client
            && (!user.is_empty() || options.allow_subscribe_for_anonymous)
    }

    fn permit_by_token(
        &self,
        client: &Client,
        request: &SubscribeRequest,
    ) -> Result<Permit, Refusal> {
        let info = &client.info;
        let now_s = unix_ms() / 1000;
        let claims = self.tokens.subscribe.verify_subscribe(
            &request.token,
            &info.user,
            &request.channel,
            &info.client,
            now_s,
        );
        let claims = claims.map_err(|error| match error {
            TokenError::Expired => Refusal::from(ErrorCode::TokenExpired),
            TokenError::Mismatch(_) => Disconnect::InvalidToken.into(),
            TokenError::Invalid(_) => ErrorCode::PermissionDenied.into(),
            TokenError::UnknownKey { .. } => {
                let keys = self.shared.backend.subscribe_keys();
                self.refuse_token(&error, keys, ErrorCode::PermissionDenied.into())
            }
        })?;
        if self.tokens.revocations.is_revoked(claims.identity(), now_s) {
            return Err(ErrorCode::PermissionDenied.into());
        }
        if claims.expire_at_s.is_some_and(|expire_s| expire_s <= now_s) {
            return Err(ErrorCode::Expired.into());
        }
        let granted = claims.subscription;
        Ok(Permit {
            info: granted.info.unwrap_or_default(),
            data: granted.data.unwrap_or_default(),
            expire_at_s: claims.expire_at_s.unwrap_or(0),
            overrides: granted.overrides,
        })
    }

    /// Puts together what is wanted from what was asked for and what is allowed.
    pub(super) fn wanted(
        &self,
        key: Key,
        request: &SubscribeRequest,
        options: &ChannelOptions,
        permit: Permit,
        origin: Origin,
    ) -> Result<Wanted, Refusal> {
        let overrides = &permit.overrides;
        let has_history = options.has_history();
        let recoverable = has_history
            && (overrides.force_recovery.unwrap_or(options.force_recovery)
                || (request.recoverable && options.allow_recovery));
        let positioned = recoverable
            || has_history
                && (overrides
                    .force_positioning
                    .unwrap_or(options.force_positioning)
                    || (request.positioned && options.allow_positioning));
        let is_cache = options.force_recovery_mode == RecoveryMode::Cache;
        let announces = overrides.join_leave.unwrap_or(options.join_leave);
        let gets_events = announces
            && (request.join_leave
                || overrides
                    .force_push_join_leave
                    .unwrap_or(options.force_push_join_leave));
        let recovers = request.recover || is_cache && options.auto_cache_recover;
        let since =
            (recoverable && recovers).then(|| Since::from_text(&request.epoch, request.offset));
        // A difference refers to the publication before, which a filter may have kept back.
        let takes_deltas =
            request.delta == "fossil" && options.allows_fossil() && request.filter.is_none();
        let client = self.client(key)?;
        let selection = Selection::default()
            .with_events(gets_events)
            // The clients in JavaScript take ids in Protobuf for objects, and find no subscription by them.
            .with_id(request.takes_channel_ids() && client.format == Format::Json);
        Ok(Wanted {
            channel: Arc::from(request.channel.as_str()),
            origin,
            encoding: self.encoding_of(key, client, takes_deltas, selection),
            flags: WantedFlags {
                positioned,
                recoverable,
                latest_only: is_cache,
                rejects_unrecovered: request.rejects_unrecovered(),
                wants_missed: request.recover || recoverable && recovers,
                is_present: overrides.presence.unwrap_or(options.presence),
                is_announced: announces,
                ..WantedFlags::default()
            },
            since,
            expire_at_s: permit.expire_at_s,
            info: permit.info,
            data: permit.data,
            filter: None,
            local: None,
        })
    }

    /// The form in which a client gets publications.
    fn encoding_of(
        &self,
        key: Key,
        client: &Client,
        takes_deltas: bool,
        selection: Selection,
    ) -> Encoding {
        let dialect = match (client.format, client.is_uni, takes_deltas) {
            (Format::Json, true, _) => Dialect::UniJson,
            (Format::Json, false, false) => Dialect::Json,
            (Format::Json, false, true) => Dialect::JsonFull,
            (Format::Protobuf, _, false) => Dialect::Protobuf,
            (Format::Protobuf, _, true) => Dialect::ProtobufFull,
        };
        let (framing, window_bits) = self.framing_of(key);
        Encoding {
            dialect,
            framing,
            window_bits,
            selection,
        }
    }

    /// Begins to make a subscription that is allowed.
    pub(super) fn begin_subscribe(
        &mut self,
        key: Key,
        mut wanted: Wanted,
        filter: Option<Filter>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        wanted.filter = filter;
        let name = Arc::clone(&wanted.channel);
        let Some((local, hearing)) = self.hear(key, &name) else {
            return Err(ErrorCode::Internal.into());
        };
        wanted.local = Some(local);
        let (position, owner) = match self.local.get_mut(local) {
            Some(channel) => (channel.position, channel.owner),
            None => return Err(ErrorCode::Internal.into()),
        };
        let has_all = hearing == Hearing::Now
            && !wanted.flags.latest_only
            && wanted.since == Some(position.into());
        let Some(since) = wanted.since.filter(|_| !has_all) else {
            if hearing == Hearing::Now {
                let recovery = has_all.then(|| Arc::new(nothing_missed(position)));
                return self.complete_subscribe(key, wanted, recovery, out);
            }
            self.wait(key, Awaited::Subscribe(Box::new(wanted)));
            return Ok(());
        };
        wanted.flags.asked_history = true;
        let wish = RecoveryWish {
            since: Some(since),
            latest_only: wanted.flags.latest_only,
            in_pages: false,
        };
        if hearing == Hearing::Now
            && let Some(known) = self.known_recovery(local, wish, position)
        {
            return self.complete_subscribe(key, wanted, Some(known), out);
        }
        if owner == self.id {
            let recovery = self.recover_here(&name, wish);
            let recovery = recovery.map(|recovery| self.keep_recovery(local, wish, recovery));
            return self.complete_subscribe(key, wanted, recovery, out);
        }
        if hearing == Hearing::Now {
            self.hold(local, key);
        }
        if let Some(tag) = self.wait(key, Awaited::Subscribe(Box::new(wanted))) {
            let asker = Asker { session: key, tag };
            self.ask_recovery(owner, &name, local, wish, asker);
        }
        Ok(())
    }

    /// The channel is heard: subscribes, and says so.
    pub(super) fn complete_subscribe(
        &mut self,
        key: Key,
        wanted: Wanted,
        recovery: Option<Arc<Recovery>>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let recovered = recovery.as_ref().is_some_and(|recovery| recovery.recovered);
        if recovery.is_some() && !recovered && wanted.flags.rejects_unrecovered {
            if let Some(local) = wanted.local {
                // It may have been opened for this alone.
                self.leave_if_empty(local);
            }
            return Err(ErrorCode::UnrecoverablePosition.into());
        }
        let encoding = self.claim_filter(&wanted)?;
        let Some(local) = wanted.local else {
            return Err(ErrorCode::Internal.into());
        };
        // Who has just got the newest publication has what the next difference refers to.
        let newest = recovery
            .as_ref()
            .and_then(|recovery| recovery.publications.last())
            .map(|newest| newest.data.clone());
        let live = encoding.after_first().filter(|_| newest.is_some());
        let Some(place) = self.add_subscriber(local, key, live.unwrap_or(encoding)) else {
            return Err(ErrorCode::Internal.into());
        };
        if let (Some(channel), Some(newest), Some(_)) = (self.local.get_mut(local), newest, live) {
            channel.keep_base(&newest);
        }
        let position = self.local.get_mut(local).map(|channel| channel.position);
        let is_refreshed = self.sub_refresher(&wanted.channel).is_some();
        let grace_s = match is_refreshed {
            true => 0,
            false => self.shared.config.client.limits.expired_sub_close_delay_s,
        };
        let expires_s = self.deadline_of(wanted.expire_at_s, grace_s);
        let client = self.client_mut(key)?;
        let info = (!wanted.info.is_empty()).then(|| {
            Arc::new(ClientInfo {
                chan_info: wanted.info.clone(),
                ..ClientInfo::clone(&client.info)
            })
        });
        let shown = Arc::clone(info.as_ref().unwrap_or(&client.info));
        client.subscriptions.reserve_exact(1);
        client.subscriptions.push(ClientSubscription {
            place,
            is_server_side: wanted.origin.is_server_side(),
            is_positioned: wanted.flags.positioned || wanted.flags.recoverable,
            is_present: wanted.flags.is_present,
            is_announced: wanted.flags.is_announced,
            expires_s,
            info,
        });
        let since_offset = wanted.since.map_or(0, |since| since.offset);
        let position = recovery
            .as_ref()
            .map(|recovery| recovery.position)
            .or(position);
        if let Some(position) = position.filter(|_| wanted.flags.recoverable && has_ids(encoding)) {
            self.note_place(key, local.slot, position);
        }
        let (publications, count) = match &recovery {
            Some(recovery) => self.write_recovery(recovery, wanted.filter.as_ref(), encoding),
            None => (Bytes::new(), 0),
        };
        self.metrics.recovered_publications.add(count);
        let subscribed = Subscribed {
            channel: wanted.channel,
            epoch: position.map_or(String::new(), |position| position.epoch.to_string()),
            offset: match recovered {
                true => since_offset,
                false => position.map_or(0, |position| position.offset),
            },
            publications,
            recovered,
            was_recovering: wanted.flags.wants_missed,
            flags: wanted.flags,
            // Not the client's concern, where the backend sees to it.
            expire_at_s: if is_refreshed { 0 } else { wanted.expire_at_s },
            data: wanted.data,
            encoding,
            id: match encoding.selection.is_by_id() {
                true => i64::from(local.slot) + 1,
                false => 0,
            },
        };
        self.tell_subscribed(key, wanted.origin, subscribed, out);
        self.show(key, local.slot, shown, wanted.flags, None);
        self.reschedule(key);
        Ok(())
    }
}

impl Core {
    /// Gives a subscription its number among the filters of its channel.
    fn claim_filter(&mut self, wanted: &Wanted) -> Result<Encoding, Refusal> {
        let Some(filter) = &wanted.filter else {
            return Ok(wanted.encoding);
        };
        let channel = wanted.local.and_then(|local| self.local.get_mut(local));
        let number = channel.and_then(|channel| channel.claim_filter(filter));
        let number = number.ok_or(ErrorCode::LimitExceeded)?;
        let asked = wanted.encoding.selection;
        let selection = Selection::new(number)
            .with_events(asked.wants_events())
            .with_id(asked.is_by_id());
        Ok(Encoding {
            selection,
            ..wanted.encoding
        })
    }

    /// Tells a client, or whoever asked for it, that it is subscribed.
    fn tell_subscribed(
        &mut self,
        key: Key,
        origin: Origin,
        subscribed: Subscribed,
        out: &mut Vec<u8>,
    ) {
        match origin {
            Origin::Command(id) => self.reply_subscribed(key, id, &subscribed, out),
            Origin::Order => self.push_subscribed(key, &subscribed),
            Origin::Connect => {
                if let Ok(client) = self.client_mut(key)
                    && let Some(connecting) = &mut client.rare_mut().connecting
                {
                    connecting.subscribed.push(subscribed);
                }
            }
        }
    }

    /// Tells the owner of a channel that a client came there, or left.
    fn show(
        &mut self,
        key: Key,
        local_slot: u32,
        info: Arc<ClientInfo>,
        flags: WantedFlags,
        departure: Option<Departure>,
    ) {
        if !flags.is_present && !flags.is_announced {
            return;
        }
        let presence = Presence {
            owned: Key {
                slot: 0,
                generation: 0,
            },
            info,
            device: self.device_of(key),
            departure,
            is_present: flags.is_present,
            is_announced: flags.is_announced,
        };
        self.tell_presence(local_slot, presence);
    }

    /// Tells the owner of a channel what is to be seen of a client from now on, if anything is.
    pub(super) fn show_again(&mut self, key: Key, local_slot: u32) {
        let Ok(client) = self.client(key) else {
            return;
        };
        let Some(subscription) = client.subscription(local_slot) else {
            return;
        };
        let info = Arc::clone(subscription.info.as_ref().unwrap_or(&client.info));
        let flags = WantedFlags {
            is_present: subscription.is_present,
            ..WantedFlags::default()
        };
        self.show(key, local_slot, info, flags, None);
    }

    /// A channel a client waited for is heard now.
    pub(super) fn client_heard(&mut self, key: Key, local: Key) {
        loop {
            let Ok(client) = self.client_mut(key) else {
                return;
            };
            let Some(wanted) = client.take_joined(local) else {
                return;
            };
            self.finish_wanted(key, *wanted, None);
        }
    }

    /// A channel a client waited for cannot be opened.
    pub(super) fn client_refused(&mut self, key: Key, local: Key) {
        while let Ok(client) = self.client_mut(key)
            && let Some(wanted) = client.take_wanted(local)
        {
            let origin = wanted.origin;
            self.refuse_wanted(key, origin, ErrorCode::Internal.into());
        }
        self.obey_deferred(key);
        self.resume(key);
    }

    /// The owner said what a client missed.
    pub(super) fn recovered(&mut self, asker: Asker, recovery: Option<Arc<Recovery>>) {
        let key = asker.session;
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        let Some(Awaited::Subscribe(wanted)) = client.take_waiting(asker.tag) else {
            return;
        };
        let local = wanted.local;
        self.finish_wanted(key, *wanted, recovery);
        if let Some(local) = local {
            self.let_go(local, key);
        }
    }

    fn finish_wanted(&mut self, key: Key, wanted: Wanted, recovery: Option<Arc<Recovery>>) {
        let origin = wanted.origin;
        let mut out = Vec::new();
        let completed = self.complete_subscribe(key, wanted, recovery, &mut out);
        self.say(key, &out);
        match completed {
            Err(refusal) => self.refuse_wanted(key, origin, refusal),
            Ok(()) if origin == Origin::Connect => self.finish_connecting(key),
            Ok(()) => {}
        }
        self.obey_deferred(key);
        self.resume(key);
    }

    fn refuse_wanted(&mut self, key: Key, origin: Origin, refusal: Refusal) {
        match origin {
            Origin::Command(id) => {
                let mut out = Vec::new();
                self.refuse_command(key, id, refusal, &mut out);
                self.say(key, &out);
            }
            Origin::Connect => self.finish_connecting(key),
            Origin::Order => {}
        }
    }

    /// True if a session that waits for the channel at `local` also waits for what it missed there.
    pub(super) fn awaits_history(&self, key: Key, local: Key) -> bool {
        let awaited = self.awaited(key);
        match self.client(key) {
            Ok(client) => client.awaits_history(local),
            Err(_) => {
                awaited.is_some_and(|awaiting| awaiting.local == local && awaiting.asked_history)
                    || self.part_awaits_history(key, local)
            }
        }
    }

    /// A client wants to leave a channel. That it is not there is no error.
    pub(super) fn command_unsubscribe(
        &mut self,
        key: Key,
        id: u32,
        name: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        if name.is_empty() {
            return Err(Disconnect::BadRequest.into());
        }
        if let Some(local) = self.local.find(name) {
            self.leave(key, local.slot);
        }
        self.reply(key, id, ReplyResult::Unsubscribe, out);
        Ok(())
    }

    /// Ends a client's subscription. False if there is none.
    pub(super) fn leave(&mut self, key: Key, local_slot: u32) -> bool {
        let Ok(client) = self.client_mut(key) else {
            return false;
        };
        let mut all = client.subscriptions.iter();
        let Some(at) = all.position(|one| one.place.channel == local_slot) else {
            return false;
        };
        let subscription = client.subscriptions.swap_remove(at);
        if let Some(rare) = &mut client.rare {
            rare.places.retain(|place| !place.is_in(local_slot));
        }
        let info = Arc::clone(&client.info);
        self.left(key, subscription, info, Departure::Left);
        true
    }

    fn left(
        &mut self,
        key: Key,
        subscription: ClientSubscription,
        info: Arc<ClientInfo>,
        departure: Departure,
    ) {
        let flags = WantedFlags {
            is_present: subscription.is_present,
            is_announced: subscription.is_announced,
            ..WantedFlags::default()
        };
        let info = subscription.info.unwrap_or(info);
        let channel = subscription.place.channel;
        self.show(key, channel, info, flags, Some(departure));
        self.remove_subscriber(subscription.place);
    }

    /// Takes a client out of all its channels, and out of all it waits for.
    pub(super) fn leave_all(&mut self, key: Key, departure: Departure) {
        if let Some(awaiting) = self.awaited(key) {
            let local = awaiting.local;
            self.let_go(local, key);
        }
        self.leave_several(key);
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        let subscriptions = std::mem::take(&mut client.subscriptions);
        let waiting = std::mem::take(&mut client.waiting);
        let info = Arc::clone(&client.info);
        for subscription in subscriptions {
            self.left(key, subscription, Arc::clone(&info), departure);
        }
        for waiting in waiting {
            if let Awaited::Subscribe(wanted) = waiting.what {
                self.let_go_wanted(key, &wanted);
            }
        }
        self.forget_user(key, &info.user);
    }

    fn let_go_wanted(&mut self, key: Key, wanted: &Wanted) {
        if let Some(local) = wanted.local {
            self.let_go(local, key);
        }
    }

    /// Ends a client's subscription from this side, and tells it.
    pub(super) fn unsubscribe_by_server(
        &mut self,
        key: Key,
        local_slot: u32,
        code: UnsubscribeCode,
    ) {
        let Some((_, channel)) = self.local.at_mut(local_slot) else {
            return;
        };
        let name = Arc::clone(&channel.name);
        if self.leave(key, local_slot) {
            self.push_unsubscribed(key, &name, code);
        }
    }

    /// Ends what has expired of a client, when its deadline came.
    pub(super) fn expire_client(&mut self, key: Key, now_s: u32) {
        let is_due = |expires_s: u32| expires_s != 0 && now_s >= expires_s;
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        if is_due(client.expires_s) {
            return self.expire_connection(key);
        }
        let due: Vec<u32> = client
            .subscriptions
            .iter()
            .filter(|one| is_due(one.expires_s))
            .map(|one| one.place.channel)
            .collect();
        for channel in due {
            if !self.ask_sub_refresh(key, channel) {
                self.end_expired(key, channel);
            }
        }
    }

    /// Ends a subscription that has expired; the connection too, if the client did not ask for it.
    pub(super) fn end_expired(&mut self, key: Key, local_slot: u32) {
        let Ok(client) = self.client(key) else {
            return;
        };
        match client.subscription(local_slot) {
            Some(subscription) if subscription.is_server_side => {
                let reason = CloseReason::Expired;
                self.disconnect(key, &Disconnect::SubscriptionExpired, reason);
            }
            _ => self.unsubscribe_by_server(key, local_slot, UnsubscribeCode::Expired),
        }
    }
}

fn nothing_missed(position: Position) -> Recovery {
    Recovery {
        recovered: true,
        publications: Vec::new(),
        position,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::auth::sign_hs256;
    use crate::config::{ChannelOptions, Config, DeltaType};
    use crate::proto::frame::{Opcode, encode_masked_frame};
    use crate::shard::testing::{Bed, Client, with_cores};

    /// Everybody may do everything.
    fn config() -> Config {
        let mut config = Config::default();
        config.client.limits.insecure = true;
        config.channel.without_namespace = ChannelOptions {
            presence: true,
            allow_tags_filter: true,
            allowed_delta_types: vec![DeltaType::Fossil],
            ..ChannelOptions::default()
        };
        config
    }

    /// A client of the first core, and a channel of the other.
    fn with_client(test: impl FnOnce(&mut Bed, &mut Client, String)) {
        with_cores(2, config(), |bed| {
            let mut client = bed.websocket(0, "/connection/websocket");
            send(
                bed,
                &mut client,
                Opcode::Text,
                &[json!({"id": 1, "connect": {}})],
            );
            assert_eq!(heard(&mut client, 1)[0]["id"], 1);
            let channel = bed.channel_of(1);
            test(bed, &mut client, channel);
        });
    }

    /// Sends commands in one message. No other core hears of it yet.
    fn send(bed: &mut Bed, client: &mut Client, opcode: Opcode, commands: &[Value]) {
        let lines: Vec<String> = commands.iter().map(Value::to_string).collect();
        let mut frame = Vec::new();
        encode_masked_frame(
            &mut frame,
            opcode,
            [1, 2, 3, 4],
            lines.join("\n").as_bytes(),
        );
        bed.say(client, &frame);
    }

    /// The next `count` replies and pushes.
    fn heard(client: &mut Client, count: usize) -> Vec<Value> {
        let mut heard = Vec::new();
        while heard.len() < count {
            let message = client.message();
            let lines = message.split(|byte| *byte == b'\n');
            heard.extend(lines.map(|line| serde_json::from_slice::<Value>(line).unwrap()));
        }
        heard
    }

    #[test]
    fn commands_about_a_channel_come_after_the_subscription_before_them() {
        with_client(|bed, client, channel| {
            let about = json!({ "channel": channel });
            let publish = json!({"channel": channel, "data": 1});
            let commands = [
                json!({"id": 2, "subscribe": about}),
                json!({"id": 3, "presence": about}),
                json!({"id": 4, "unsubscribe": about}),
                json!({"id": 5, "subscribe": about}),
                json!({"id": 6, "publish": publish}),
                json!({"id": 7, "unsubscribe": about}),
                json!({"id": 8, "subscribe": about}),
            ];
            send(bed, client, Opcode::Text, &commands);
            bed.pass_messages();
            let replies = heard(client, commands.len());
            let reply = |id: u32| replies.iter().find(|reply| reply["id"] == id).unwrap();
            for id in [2, 4, 5, 7, 8] {
                assert!(reply(id)["error"].is_null(), "{}", reply(id));
            }
            let present = reply(3)["presence"]["presence"].as_object().unwrap();
            assert_eq!(present.len(), 1);
            assert_eq!(bed.cores[0].metrics.subscriptions.get(), 1);
        });
    }

    #[test]
    fn who_is_let_in_hears_of_that_first() {
        let mut config = config();
        config.client.token.hmac_secret_key = "secret".to_owned();
        with_cores(2, config, |bed| {
            let mut client = bed.websocket(0, "/connection/websocket");
            let claims = json!({"sub": "42", "channels": [bed.channel_of(1)]});
            let token = sign_hs256("secret", &claims.to_string()).unwrap();
            let commands = [
                json!({"id": 1, "connect": {"token": token}}),
                json!({"id": 2, "subscribe": {"channel": bed.channel_of(0)}}),
                json!({"id": 3, "rpc": {"method": "m"}}),
            ];
            send(bed, &mut client, Opcode::Text, &commands);
            assert!(!client.has_bytes());
            bed.pass_messages();
            let ids: Vec<Value> = heard(&mut client, 3)
                .iter_mut()
                .map(|reply| reply["id"].take())
                .collect();
            assert_eq!(ids, [1, 2, 3]);
        });
    }

    #[test]
    fn what_is_being_made_is_ended_when_it_is_there() {
        for ended in [None, Some("")] {
            with_client(|bed, client, channel| {
                let subscribe = json!({"id": 2, "subscribe": {"channel": channel}});
                send(bed, client, Opcode::Text, &[subscribe]);
                let ended = ended.unwrap_or(&channel);
                bed.cores[0].unsubscribe_ordered(client.key, ended);
                bed.pass_messages();
                let heard = heard(client, 2);
                assert!(heard[0]["subscribe"].is_object(), "{}", heard[0]);
                assert_eq!(heard[1]["push"]["unsubscribe"]["code"], 2000);
                assert_eq!(bed.cores[0].metrics.subscriptions.get(), 0);
            });
        }
    }

    #[test]
    fn who_cannot_recover_is_told_that_it_did_not() {
        with_client(|bed, client, channel| {
            let wish = json!({"channel": channel, "recover": true, "offset": 7});
            send(
                bed,
                client,
                Opcode::Text,
                &[json!({"id": 2, "subscribe": wish})],
            );
            bed.pass_messages();
            assert_eq!(
                heard(client, 1)[0]["subscribe"],
                json!({"was_recovering": true})
            );
        });
    }

    #[test]
    fn differences_are_for_those_who_get_everything() {
        with_client(|bed, client, channel| {
            let all = json!({"channel": channel, "delta": "fossil"});
            let filter = json!({"key": "k", "cmp": "eq", "val": "v"});
            let some = json!({"channel": "other", "delta": "fossil", "tf": filter});
            let commands = [
                json!({"id": 2, "subscribe": all}),
                json!({"id": 3, "subscribe": some}),
            ];
            send(bed, client, Opcode::Text, &commands);
            bed.pass_messages();
            let mut replies = heard(client, 2);
            replies.sort_by_key(|reply| reply["id"].as_u64());
            assert_eq!(replies[0]["subscribe"], json!({"delta": true}));
            assert_eq!(replies[1]["subscribe"], json!({}));
        });
    }

    #[test]
    fn json_may_come_in_binary_messages() {
        with_client(|bed, client, _| {
            let commands = [
                json!({"id": 2, "publish": {"channel": "é", "data": 1}}),
                json!({"id": 3, "rpc": {"method": "nowhere:m"}}),
            ];
            send(bed, client, Opcode::Binary, &commands);
            let replies = heard(client, 2);
            assert_eq!(replies[0]["error"]["code"], 107, "not ASCII");
            assert_eq!(replies[1]["error"]["code"], 108, "nobody takes calls");
        });
    }

    /// Every channel that was opened is given up again, at its owner too.
    fn nothing_is_open(bed: &mut Bed) {
        bed.pass_messages();
        for core in &bed.cores {
            assert_eq!(core.local.len(), 0);
            assert_eq!(core.metrics.subscriptions.get(), 0);
        }
    }

    fn recover(channel: &str, flag: i64) -> Value {
        json!({"channel": channel, "recover": true, "epoch": "x", "offset": 0, "flag": flag})
    }

    /// A client of the first core, and channels that keep a history.
    fn with_recovering_client(test: impl FnOnce(&mut Bed, &mut Client)) {
        let mut config = config();
        config.channel.without_namespace = ChannelOptions {
            history_size: 10,
            history_ttl_s: 60,
            force_recovery: true,
            ..ChannelOptions::default()
        };
        with_cores(2, config, |bed| {
            let mut client = bed.websocket(0, "/connection/websocket");
            let connect = json!({"id": 1, "connect": {}});
            send(bed, &mut client, Opcode::Text, &[connect]);
            heard(&mut client, 1);
            test(bed, &mut client);
        });
    }

    fn send_close(bed: &mut Bed, client: &mut Client) {
        let mut frame = Vec::new();
        encode_masked_frame(&mut frame, Opcode::Close, [1, 2, 3, 4], &[]);
        bed.say(client, &frame);
    }

    #[test]
    fn a_channel_taken_back_and_wanted_again_is_let_go_with_its_client() {
        with_recovering_client(|bed, client| {
            let channel = bed.channel_of(1);
            let commands = [
                json!({"id": 2, "subscribe": {"channel": channel}}),
                json!({"id": 3, "unsubscribe": {"channel": channel}}),
                json!({"id": 4, "subscribe": recover(&channel, 0)}),
            ];
            send(bed, client, Opcode::Text, &commands);
            bed.pass_messages();
            let replies = heard(client, 3);
            assert!(replies.iter().all(|reply| reply["error"].is_null()));
            assert_eq!(bed.cores[0].metrics.subscriptions.get(), 1);
            send_close(bed, client);
            nothing_is_open(bed);
        });
    }

    #[test]
    fn a_subscription_that_must_recover_and_cannot_leaves_no_channel_open() {
        with_recovering_client(|bed, client| {
            for owner in [0, 1] {
                let subscribe = recover(&bed.channel_of(owner), 2);
                let command = json!({"id": 2, "subscribe": subscribe});
                send(bed, client, Opcode::Text, &[command]);
                bed.pass_messages();
                assert_eq!(heard(client, 1)[0]["error"]["code"], 112);
                nothing_is_open(bed);
            }
        });
    }
}
