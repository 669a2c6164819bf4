//! The compact form of a signed token (RFC 7515 section 7.1), read strictly: one encoding of one meaning.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm as Jwt;
use serde_json::value::RawValue;

use super::members::Members;

/// The longest token in bytes.
pub const TOKEN_BYTES_MAX: usize = 8192;

/// The longest name of a key in bytes.
const KID_BYTES_MAX: usize = 256;

/// How a token is signed (RFC 7518 section 3.1, RFC 8037). `none` is not among them, nor are the PSS ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// One that the library has.
    Of(Jwt),
    /// ECDSA on P-521 with SHA-512, which it has not.
    Es512,
}

/// A token whose signature has not been looked at.
pub(super) struct Token<'a> {
    pub(super) algorithm: Algorithm,
    /// Name of the key. Only ever an index into keys that are there already.
    pub(super) kid: Option<String>,
    /// What is signed: header and claims in base64url, with the dot.
    pub(super) signed: &'a str,
    /// The signature in base64url.
    pub(super) signature: &'a str,
    /// The claims in base64url.
    claims: &'a str,
}

impl<'a> Token<'a> {
    /// Takes a token apart and reads its header. The error says what is wrong with it.
    pub(super) fn parse(text: &'a str) -> Result<Self, &'static str> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err("the token is too long");
        }
        let (signed, signature) = text.rsplit_once('.').ok_or("not three parts")?;
        let (header, claims) = signed.split_once('.').ok_or("not three parts")?;
        if claims.contains('.') {
            return Err("not three parts");
        }
        if signature.is_empty() {
            return Err("no signature");
        }
        decode(signature).ok_or("the signature is not base64url")?;
        let header = decode(header).ok_or("the header is not base64url")?;
        let (algorithm, kid) = read_header(&header)?;
        Ok(Self {
            algorithm,
            kid,
            signed,
            signature,
            claims,
        })
    }

    /// The claims as they were written. To be asked for only when the signature is right.
    pub(super) fn claims(&self) -> Result<Vec<u8>, &'static str> {
        decode(self.claims).ok_or("the claims are not base64url")
    }
}

/// Base64url without padding and with zeros in the bits that are left over: no other form is accepted, so that
/// nobody can change a token and keep what it means.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Algorithm and name of the key. Keys in the header and places to fetch one from (`jwk`, `jku`, `x5c`, `x5u`) are
/// never looked at; what changes the meaning of the token (`crit`, RFC 7515 section 4.1.11; `b64`, RFC 7797) is refused.
fn read_header(json: &[u8]) -> Result<(Algorithm, Option<String>), &'static str> {
    let header = Members::parse(json).ok_or("the header is not one JSON object")?;
    if header.raw("crit").is_some() {
        return Err("crit in the header is not supported");
    }
    if header
        .raw("b64")
        .map(RawValue::get)
        .is_some_and(|b64| b64 != "true")
    {
        return Err("b64 in the header is not supported");
    }
    let name: Option<String> = header.read("alg").map_err(|_| "alg is not a string")?;
    let name = name.ok_or("no alg in the header")?;
    let algorithm = algorithm(&name).ok_or("alg is not supported")?;
    let kid: Option<String> = header
        .read::<String>("kid")
        .map_err(|_| "kid is not a string")?;
    if kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
        return Err("kid is too long");
    }
    Ok((algorithm, kid))
}

/// The algorithm of this name, if there is one.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(Algorithm::Of(match name {
        "HS256" => Jwt::HS256,
        "HS384" => Jwt::HS384,
        "HS512" => Jwt::HS512,
        "RS256" => Jwt::RS256,
        "RS384" => Jwt::RS384,
        "RS512" => Jwt::RS512,
        "ES256" => Jwt::ES256,
        "ES384" => Jwt::ES384,
        "ES512" => return Some(Algorithm::Es512),
        "EdDSA" => Jwt::EdDSA,
        _ => return None,
    }))
}
