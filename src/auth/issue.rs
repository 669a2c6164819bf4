//! Makes tokens for development. In production the application's backend makes them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};

use super::token::TOKEN_BYTES_MAX;

/// The longest claims in bytes of JSON whose token is still accepted.
pub const CLAIMS_BYTES_MAX: usize = (TOKEN_BYTES_MAX - HEADER.len() * 4 / 3 - 64) * 3 / 4;

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// Why no token was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssueError {
    /// More than [`CLAIMS_BYTES_MAX`].
    TooLong,
    /// The library could not sign.
    Signing,
}

impl fmt::Display for IssueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IssueError::TooLong => {
                write!(
                    f,
                    "claims of more than {CLAIMS_BYTES_MAX} bytes; leave some out"
                )
            }
            IssueError::Signing => f.write_str("the token could not be signed"),
        }
    }
}

impl std::error::Error for IssueError {}

/// A token with these claims, a JSON object, signed with HMAC-SHA-256.
///
/// # Errors
/// Claims that are too long.
pub fn sign_hs256(secret: &str, claims: &str) -> Result<String, IssueError> {
    if claims.len() > CLAIMS_BYTES_MAX {
        return Err(IssueError::TooLong);
    }
    let encode = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let signed = format!("{}.{}", encode(HEADER), encode(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature =
        crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).map_err(|_| IssueError::Signing)?;
    Ok(format!("{signed}.{signature}"))
}
