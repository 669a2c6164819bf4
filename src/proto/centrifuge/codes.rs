//! The numbers by which a server says why: error codes in replies, disconnect codes for connections,
//! unsubscribe codes for subscriptions.

/// The longest reason of a disconnect in bytes: it and the code must fit a control frame (RFC 6455
/// section 5.5), and clients count on a little less.
pub const DISCONNECT_REASON_BYTES_MAX: usize = 123;

/// Errors that the protocol itself defines. 0 to 399 are reserved; applications use 400 to 1999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ErrorCode {
    /// The server failed; worth another try.
    Internal = 100,
    /// No valid credentials.
    Unauthorized = 101,
    /// No such channel, or no such namespace.
    UnknownChannel = 102,
    /// Not for this client.
    PermissionDenied = 103,
    /// No such method.
    MethodNotFound = 104,
    /// The client has this subscription.
    AlreadySubscribed = 105,
    /// One subscription too many, or whatever else is counted.
    LimitExceeded = 106,
    /// The request makes no sense.
    BadRequest = 107,
    /// The feature is off.
    NotAvailable = 108,
    /// The client must get a new token.
    TokenExpired = 109,
    /// Credentials or a subscription ran out.
    Expired = 110,
    /// Worth another try, later.
    TooManyRequests = 111,
    /// The position asked for is not in the history any more.
    UnrecoverablePosition = 112,
    /// The pages asked for changed meanwhile; worth another try.
    ConcurrentPagination = 113,
}

impl ErrorCode {
    /// The number that goes on the wire.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The text that goes with it.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Internal => "internal server error",
            Self::Unauthorized => "unauthorized",
            Self::UnknownChannel => "unknown channel",
            Self::PermissionDenied => "permission denied",
            Self::MethodNotFound => "method not found",
            Self::AlreadySubscribed => "already subscribed",
            Self::LimitExceeded => "limit exceeded",
            Self::BadRequest => "bad request",
            Self::NotAvailable => "not available",
            Self::TokenExpired => "token expired",
            Self::Expired => "expired",
            Self::TooManyRequests => "too many requests",
            Self::UnrecoverablePosition => "unrecoverable position",
            Self::ConcurrentPagination => "concurrent pagination",
        }
    }

    /// True if the client should try again by itself.
    pub const fn is_temporary(self) -> bool {
        matches!(
            self,
            Self::Internal | Self::TooManyRequests | Self::ConcurrentPagination
        )
    }
}

/// Why a connection ends. On a WebSocket it is the code and reason of the Close frame, elsewhere a
/// disconnect push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// 3000. Closed without a code of its own; clients use it for themselves.
    ConnectionClosed,
    /// 3001. The server stops; come back, to another one.
    Shutdown,
    /// 3004. The server failed.
    InternalServerError,
    /// 3005. The connection's credentials ran out.
    ConnectionExpired,
    /// 3006. A server-side subscription ran out.
    SubscriptionExpired,
    /// 3008. The client does not read fast enough.
    Slow,
    /// 3009. Writing to the client failed.
    WriteError,
    /// 3010. Publications of a server-side subscription were lost.
    InsufficientState,
    /// 3011. Told to come back.
    ForceReconnect,
    /// 3012. A ping was not answered.
    NoPong,
    /// 3013. Come back later.
    TooManyRequests,
    /// 3014. Come back without token and cached state.
    StateInvalidated,
    /// 3500. The token is not valid.
    InvalidToken,
    /// 3501. The client broke the protocol.
    BadRequest,
    /// 3502. No successful connect in time.
    Stale,
    /// 3503. Told to go.
    ForceNoReconnect,
    /// 3504. One connection too many.
    ConnectionLimit,
    /// 3505. More channels than a connection may have.
    ChannelLimit,
    /// 3506. Another format than this endpoint's.
    InappropriateProtocol,
    /// 3507. Not for this client.
    PermissionDenied,
    /// 3508. The feature is off.
    NotAvailable,
    /// 3509. Too many requests that failed.
    TooManyErrors,
    /// 3600. A newer connection of the same device has taken over.
    TakenOver,
    /// A code of the application's.
    Custom {
        /// 4000 to 4999.
        code: u16,
        /// At most [`DISCONNECT_REASON_BYTES_MAX`] bytes.
        reason: Box<str>,
    },
}

impl Disconnect {
    /// A disconnect of the application's; what the reason has too much is cut off.
    pub fn custom(code: u16, reason: &str) -> Self {
        let end = reason.floor_char_boundary(DISCONNECT_REASON_BYTES_MAX);
        let reason = reason.get(..end).unwrap_or_default().into();
        Self::Custom { code, reason }
    }

    /// The number that goes on the wire: a WebSocket's close code.
    pub const fn code(&self) -> u16 {
        match self {
            Self::ConnectionClosed => 3000,
            Self::Shutdown => 3001,
            Self::InternalServerError => 3004,
            Self::ConnectionExpired => 3005,
            Self::SubscriptionExpired => 3006,
            Self::Slow => 3008,
            Self::WriteError => 3009,
            Self::InsufficientState => 3010,
            Self::ForceReconnect => 3011,
            Self::NoPong => 3012,
            Self::TooManyRequests => 3013,
            Self::StateInvalidated => 3014,
            Self::InvalidToken => 3500,
            Self::BadRequest => 3501,
            Self::Stale => 3502,
            Self::ForceNoReconnect => 3503,
            Self::ConnectionLimit => 3504,
            Self::ChannelLimit => 3505,
            Self::InappropriateProtocol => 3506,
            Self::PermissionDenied => 3507,
            Self::NotAvailable => 3508,
            Self::TooManyErrors => 3509,
            Self::TakenOver => 3600,
            Self::Custom { code, .. } => *code,
        }
    }

    /// The text that goes with it, short enough for a Close frame.
    pub fn reason(&self) -> &str {
        match self {
            Self::ConnectionClosed => "connection closed",
            Self::Shutdown => "shutdown",
            Self::InternalServerError => "internal server error",
            Self::ConnectionExpired => "connection expired",
            Self::SubscriptionExpired => "subscription expired",
            Self::Slow => "slow",
            Self::WriteError => "write error",
            Self::InsufficientState => "insufficient state",
            Self::ForceReconnect => "force reconnect",
            Self::NoPong => "no pong",
            Self::TooManyRequests => "too many requests",
            Self::StateInvalidated => "state invalidated",
            Self::InvalidToken => "invalid token",
            Self::BadRequest => "bad request",
            Self::Stale => "stale",
            Self::ForceNoReconnect => "force disconnect",
            Self::ConnectionLimit => "connection limit",
            Self::ChannelLimit => "channel limit",
            Self::InappropriateProtocol => "inappropriate protocol",
            Self::PermissionDenied => "permission denied",
            Self::NotAvailable => "not available",
            Self::TooManyErrors => "too many errors",
            Self::TakenOver => "taken over",
            Self::Custom { reason, .. } => reason,
        }
    }

    /// True if clients come back by themselves after it.
    pub const fn is_reconnect(&self) -> bool {
        !matches!(self.code(), 3500..=3999 | 4500..=4999)
    }
}

/// Why the server ends a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum UnsubscribeCode {
    /// The server wants it so. The client does not subscribe again.
    Server = 2000,
    /// Publications were lost. The client subscribes again and recovers.
    InsufficientState = 2500,
    /// The subscription ran out. The client subscribes again with a new token.
    Expired = 2501,
    /// As 2500, but the client first forgets its token and position.
    StateInvalidated = 2502,
}

impl UnsubscribeCode {
    /// The number that goes on the wire.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The text that goes with it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Server => "server unsubscribe",
            Self::InsufficientState => "insufficient state",
            Self::Expired => "subscription expired",
            Self::StateInvalidated => "state invalidated",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_come_back_after_some_codes_only() {
        assert!(Disconnect::Shutdown.is_reconnect());
        assert!(Disconnect::StateInvalidated.is_reconnect());
        assert!(!Disconnect::InvalidToken.is_reconnect());
        assert!(!Disconnect::TooManyErrors.is_reconnect());
        assert!(!Disconnect::TakenOver.is_reconnect());
        assert!(Disconnect::custom(4499, "").is_reconnect());
        assert!(!Disconnect::custom(4500, "").is_reconnect());
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let disconnect = Disconnect::custom(4000, &"é".repeat(100));
        assert_eq!(disconnect.reason(), "é".repeat(61));
    }

    #[test]
    fn temporary_errors_are_those_of_the_table() {
        assert!(ErrorCode::Internal.is_temporary());
        assert!(ErrorCode::TooManyRequests.is_temporary());
        assert!(ErrorCode::ConcurrentPagination.is_temporary());
        assert!(!ErrorCode::TokenExpired.is_temporary());
        assert_eq!(ErrorCode::ConcurrentPagination.code(), 113);
    }
}
