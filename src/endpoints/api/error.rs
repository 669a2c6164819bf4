//! Errors of the server API. They come in a 200 as `{"error":{"code":…,"message":…}}`; or, if the request says
//! `X-Centrifugo-Error-Mode: transport`, as an HTTP status with the bare error.

use std::borrow::Cow;

use serde::Serialize;

use crate::hub::Refused;
use crate::proto::centrifuge::ErrorCode;
use crate::proto::http::Request;
use crate::shard::Reply;

use crate::endpoints::publishing::{explain, unavailable};

/// Why a command comes to nothing.
#[derive(Debug, PartialEq)]
pub(super) struct ApiError {
    pub code: ErrorCode,
    /// One line.
    message: Cow<'static, str>,
    cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The request cannot be read.
    Malformed,
    /// Nothing was done; it may be tried again.
    Refused,
    /// Any other.
    Other,
}

/// How the client wants to hear of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorMode {
    /// In the body.
    Result,
    /// By the HTTP status.
    Transport,
}

impl ErrorMode {
    pub fn of(request: &Request<'_>) -> Self {
        match request.header("x-centrifugo-error-mode") {
            Some("transport") => Self::Transport,
            _ => Self::Result,
        }
    }
}

impl ApiError {
    pub const BAD_REQUEST: Self = Self::of(ErrorCode::BadRequest);
    pub const PERMISSION_DENIED: Self = Self::of(ErrorCode::PermissionDenied);
    pub const NOT_AVAILABLE: Self = Self::of(ErrorCode::NotAvailable);
    pub const INTERNAL: Self = Self::of(ErrorCode::Internal);
    /// The request asks for too much at once.
    pub const TOO_MANY: Self = Self::of(ErrorCode::LimitExceeded);

    const fn of(code: ErrorCode) -> Self {
        Self {
            code,
            message: Cow::Borrowed(code.message()),
            cause: Cause::Other,
        }
    }

    /// The request cannot be read, and this is where.
    pub fn malformed(problem: &str) -> Self {
        Self {
            message: format!("bad request: {problem}").into(),
            cause: Cause::Malformed,
            ..Self::BAD_REQUEST
        }
    }

    /// The shards have no room to remember what they were told.
    pub fn no_room() -> Self {
        Self {
            message: "no room: too many channels or revocations".into(),
            cause: Cause::Refused,
            ..Self::INTERNAL
        }
    }

    /// `{"code":…,"message":…}`.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            code: u32,
            message: &'a str,
        }
        let body = Body {
            code: self.code.code(),
            message: &self.message,
        };
        // A number and a text are always to be written.
        serde_json::to_string(&body).unwrap_or_default()
    }

    pub fn into_reply(self, mode: ErrorMode) -> Reply {
        let error = self.to_json();
        match (mode, self.cause) {
            (ErrorMode::Result, Cause::Malformed) => {
                Reply::json(400, format!("{{\"error\":{error}}}"))
            }
            (ErrorMode::Result, _) => Reply::json(200, format!("{{\"error\":{error}}}")),
            (ErrorMode::Transport, Cause::Refused) => unavailable(Reply::json(503, error)),
            (ErrorMode::Transport, _) => Reply::json(status_of(self.code), error),
        }
    }
}

impl From<ErrorCode> for ApiError {
    fn from(code: ErrorCode) -> Self {
        Self::of(code)
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        Self {
            message: format!("{}; try again later", explain(refused)).into(),
            cause: Cause::Refused,
            ..Self::INTERNAL
        }
    }
}

fn status_of(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::UnknownChannel | ErrorCode::MethodNotFound => 404,
        ErrorCode::PermissionDenied => 403,
        ErrorCode::BadRequest | ErrorCode::NotAvailable | ErrorCode::LimitExceeded => 400,
        ErrorCode::UnrecoverablePosition => 416,
        ErrorCode::ConcurrentPagination => 409,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(error: fn() -> ApiError) -> [(u16, String); 2] {
        [ErrorMode::Result, ErrorMode::Transport].map(|mode| {
            let reply = error().into_reply(mode);
            let body = String::from_utf8(reply.body.to_vec()).unwrap();
            (reply.status, body)
        })
    }

    #[test]
    fn errors_are_said_in_two_ways() {
        let unknown = r#"{"code":102,"message":"unknown channel"}"#;
        assert_eq!(
            replies(|| ErrorCode::UnknownChannel.into()),
            [
                (200, format!("{{\"error\":{unknown}}}")),
                (404, unknown.to_owned()),
            ]
        );
        let statuses = |error| replies(error).map(|(status, _)| status);
        assert_eq!(statuses(|| ApiError::malformed("\"")), [400, 400]);
        assert_eq!(statuses(|| ApiError::BAD_REQUEST), [200, 400]);
        assert_eq!(statuses(|| ApiError::NOT_AVAILABLE), [200, 400]);
        assert_eq!(statuses(|| ApiError::PERMISSION_DENIED), [200, 403]);
        assert_eq!(statuses(|| ApiError::INTERNAL), [200, 500]);
        assert_eq!(
            statuses(|| ErrorCode::UnrecoverablePosition.into()),
            [200, 416]
        );
    }

    #[test]
    fn what_was_refused_may_be_tried_again() {
        let [result, transport] = [ErrorMode::Result, ErrorMode::Transport]
            .map(|mode| ApiError::from(Refused::ShardBusy).into_reply(mode));
        assert_eq!((result.status, transport.status), (200, 503));
        assert_eq!(transport.headers, [("Retry-After", "1".to_owned())]);
        let body = String::from_utf8(result.body.to_vec()).unwrap();
        assert!(
            body.contains("\"code\":100") && body.contains("try again"),
            "{body}"
        );
    }
}
