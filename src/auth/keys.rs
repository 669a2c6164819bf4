//! Keys, each with the algorithms it may be used for: a key of one kind never verifies a token of another
//! (RFC 8725 section 3.1).

use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use jsonwebtoken::crypto::{self, aws_lc};
use jsonwebtoken::{Algorithm as Jwt, DecodingKey};

use super::jwks::JwkSet;
use super::settings::{SettingError, TokenSettings};
use super::token::{Algorithm, Token, decode};
use super::verifier::TokenError;

/// Bytes of an RSA modulus that are accepted: 2048 to 8192 bits.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hmac,
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

impl Kind {
    fn takes(self, algorithm: Algorithm) -> bool {
        use Jwt::*;
        let Algorithm::Of(algorithm) = algorithm else {
            return self == Kind::P521;
        };
        match self {
            Kind::Hmac => matches!(algorithm, HS256 | HS384 | HS512),
            Kind::Rsa => matches!(algorithm, RS256 | RS384 | RS512),
            Kind::P256 => algorithm == ES256,
            Kind::P384 => algorithm == ES384,
            Kind::P521 => false,
            Kind::Ed25519 => algorithm == EdDSA,
        }
    }
}

/// A key that verifies signatures.
#[derive(Clone, Debug)]
pub(super) struct Key {
    kind: Kind,
    key: DecodingKey,
    /// The one algorithm it is for; `None` = each of its kind.
    only: Option<Algorithm>,
}

impl Key {
    pub(super) fn hmac(secret: &[u8]) -> Self {
        Self::new(Kind::Hmac, DecodingKey::from_secret(secret))
    }

    /// An RSA key; `None` if its size is not accepted.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
        let modulus = modulus.get(zeros..)?;
        if !RSA_MODULUS_BYTES.contains(&modulus.len()) {
            return None;
        }
        let key = DecodingKey::from_rsa_raw_components(modulus, exponent);
        Some(Self::new(Kind::Rsa, key))
    }

    /// A point on P-256, P-384 or P-521, uncompressed (SEC 1 section 2.3.3); `None` if it has another form.
    pub(super) fn ecdsa(point: &[u8]) -> Option<Self> {
        let kind = match (point.first()?, point.len()) {
            (4, 65) => Kind::P256,
            (4, 97) => Kind::P384,
            (4, 133) => Kind::P521,
            _ => return None,
        };
        Some(Self::new(kind, DecodingKey::from_ec_der(point)))
    }

    /// An Ed25519 key (RFC 8032); `None` if it has another size.
    pub(super) fn ed25519(public: &[u8]) -> Option<Self> {
        (public.len() == 32).then(|| Self::new(Kind::Ed25519, DecodingKey::from_ed_der(public)))
    }

    fn new(kind: Kind, key: DecodingKey) -> Self {
        let only = None;
        Self { kind, key, only }
    }

    /// The key for this algorithm alone; `None` if it is of another kind.
    pub(super) fn only_for(self, algorithm: Algorithm) -> Option<Self> {
        let only = Some(algorithm);
        self.kind.takes(algorithm).then_some(Self { only, ..self })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn takes(&self, algorithm: Algorithm) -> bool {
        self.kind.takes(algorithm) && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether this key signed the token. HMACs are compared in constant time.
    pub(super) fn signed(&self, token: &Token<'_>) -> bool {
        let message = token.signed.as_bytes();
        self.takes(token.algorithm)
            && match token.algorithm {
                Algorithm::Of(algorithm) => {
                    crypto::verify(token.signature, message, &self.key, algorithm).unwrap_or(false)
                }
                Algorithm::Es512 => self.signed_es512(message, token.signature).unwrap_or(false),
            }
    }

    fn signed_es512(&self, message: &[u8], signature: &str) -> Option<bool> {
        let point = self.key.try_get_as_bytes().ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point);
        Some(key.verify(message, &decode(signature)?).is_ok())
    }
}

/// The keys of one verifier.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    configured: Vec<Key>,
    /// The previous secret, and the Unix second from which it is refused.
    previous: Option<(Key, i64)>,
    /// The key set; `None` if none is used.
    pub(super) jwks: Option<Arc<JwkSet>>,
}

impl Keys {
    pub(super) fn new(settings: &TokenSettings) -> Result<Self, SettingError> {
        let mut configured = Vec::new();
        configured.extend(secret("hmac_secret_key", &settings.hmac_secret_key)?);
        configured.extend(rsa_key(&settings.rsa_public_key)?);
        configured.extend(ecdsa_key(&settings.ecdsa_public_key)?);
        let until = match settings.hmac_previous_secret_key_valid_until {
            0 => i64::MAX,
            until => until,
        };
        let previous = secret(
            "hmac_previous_secret_key",
            &settings.hmac_previous_secret_key,
        )?;
        let uses_jwks = !settings.jwks_public_endpoint.is_empty();
        Ok(Self {
            configured,
            previous: previous.map(|key| (key, until)),
            jwks: uses_jwks.then(Arc::default),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.configured.is_empty() && self.previous.is_none() && self.jwks.is_none()
    }

    /// Whether one of the keys signed the token: one of the set's if a set is used and the token names a key,
    /// else one of those configured.
    pub(super) fn check(&self, token: &Token<'_>, now_s: i64) -> Result<(), TokenError> {
        match (&self.jwks, &token.kid) {
            (Some(jwks), Some(kid)) if !jwks.has(kid) => {
                Err(TokenError::UnknownKey { kid: kid.clone() })
            }
            (Some(jwks), Some(kid)) => one_signed(jwks.named(kid), token),
            _ => one_signed(self.usable(now_s), token),
        }
    }

    fn usable(&self, now_s: i64) -> impl Iterator<Item = &Key> {
        let previous = self
            .previous
            .iter()
            .filter(move |(_, until)| now_s < *until);
        self.configured.iter().chain(previous.map(|(key, _)| key))
    }
}

fn one_signed<'a>(
    keys: impl Iterator<Item = &'a Key>,
    token: &Token<'_>,
) -> Result<(), TokenError> {
    let mut problem = "no key for this alg";
    for key in keys.filter(|key| key.takes(token.algorithm)) {
        if key.signed(token) {
            return Ok(());
        }
        problem = "the signature is wrong";
    }
    Err(TokenError::Invalid(problem))
}

/// A PEM text as a secret would let anybody who has the public key make tokens.
fn secret(setting: &'static str, secret: &str) -> Result<Option<Key>, SettingError> {
    if secret.contains("-----BEGIN ") {
        let problem = "holds a PEM key; set rsa_public_key or ecdsa_public_key instead";
        return Err(SettingError::new(setting, problem));
    }
    Ok((!secret.is_empty()).then(|| Key::hmac(secret.as_bytes())))
}

fn rsa_key(pem: &str) -> Result<Option<Key>, SettingError> {
    let setting = "rsa_public_key";
    if pem.is_empty() {
        return Ok(None);
    }
    check_label(setting, pem, &["PUBLIC KEY", "RSA PUBLIC KEY"])?;
    let components = DecodingKey::from_rsa_pem(pem.as_bytes()).and_then(|key| {
        let read = aws_lc::DEFAULT_PROVIDER
            .key_utils
            .rsa_pub_components_from_public_key;
        read(key.try_get_as_bytes()?)
    });
    let Ok((modulus, exponent)) = components else {
        let problem = "not an RSA key; make it with openssl rsa -in private.pem -pubout";
        return Err(SettingError::new(setting, problem));
    };
    match Key::rsa(&modulus, &exponent) {
        Some(key) => Ok(Some(key)),
        None => {
            let problem = format!(
                "has {} bits; use a key of 2048 to 8192 bits",
                modulus.len() * 8
            );
            Err(SettingError::new(setting, problem))
        }
    }
}

fn ecdsa_key(pem: &str) -> Result<Option<Key>, SettingError> {
    let setting = "ecdsa_public_key";
    if pem.is_empty() {
        return Ok(None);
    }
    check_label(setting, pem, &["PUBLIC KEY"])?;
    let key = DecodingKey::from_ec_pem(pem.as_bytes());
    let point = key.as_ref().map(DecodingKey::try_get_as_bytes);
    match point {
        Ok(Ok(point)) if let Some(key) = Key::ecdsa(point) => Ok(Some(key)),
        _ => {
            let problem = "not a key on P-256, P-384 or P-521; \
                           make it with openssl ec -in private.pem -pubout";
            Err(SettingError::new(setting, problem))
        }
    }
}

/// A private key has no business here, and of a certificate the wrong part would be read.
fn check_label(setting: &'static str, pem: &str, labels: &[&str]) -> Result<(), SettingError> {
    let begins = |label: &&str| {
        pem.trim_start()
            .starts_with(&format!("-----BEGIN {label}-----"))
    };
    if labels.iter().any(begins) {
        return Ok(());
    }
    let problem = "not a public key in PEM; it begins with -----BEGIN PUBLIC KEY-----";
    Err(SettingError::new(setting, problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::token::decode;

    fn bytes(base64url: &str) -> Vec<u8> {
        decode(base64url).unwrap()
    }

    /// The key signed exactly this, and no key of another kind did.
    fn assert_signed(key: &Key, header: &str, payload: &str, signature: &str) {
        let text = format!("{header}.{payload}.{signature}");
        let token = Token::parse(&text).unwrap();
        assert!(key.signed(&token), "{text}");
        let text = format!("{header}.{payload}A.{signature}");
        assert!(!key.signed(&Token::parse(&text).unwrap()), "{text}");
        let other = Key::hmac(b"other");
        assert!(!other.signed(&token), "{text}");
    }

    /// The payload of RFC 7515 appendix A.
    const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

    #[test]
    fn rfc_7515_a_1_hs256() {
        let key = Key::hmac(&bytes(
            "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        ));
        let header = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9";
        assert_signed(
            &key,
            header,
            JOE,
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        );
    }

    #[test]
    fn rfc_7515_a_2_rs256() {
        let modulus = bytes(
            "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
        );
        let key = Key::rsa(&modulus, &bytes("AQAB")).unwrap();
        let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        assert_signed(&key, "eyJhbGciOiJSUzI1NiJ9", JOE, signature);
    }

    #[test]
    fn rfc_7515_a_3_es256() {
        let x = bytes("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
        let y = bytes("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
        let key = Key::ecdsa(&[&[4], &x[..], &y].concat()).unwrap();
        let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        assert_signed(&key, "eyJhbGciOiJFUzI1NiJ9", JOE, signature);
    }

    #[test]
    fn rfc_8037_a_4_ed25519() {
        let key = Key::ed25519(&bytes("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")).unwrap();
        let payload = "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert_signed(&key, "eyJhbGciOiJFZERTQSJ9", payload, signature);
    }

    /// The payload of RFC 7520 section 4.
    const ROAD: &str = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4";

    #[test]
    fn rfc_7520_4_1_rs256() {
        let modulus = bytes(
            "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw",
        );
        let key = Key::rsa(&modulus, &bytes("AQAB")).unwrap();
        let header = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9";
        let signature = "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg";
        assert_signed(&key, header, ROAD, signature);
    }

    #[test]
    fn rfc_7520_4_3_es512() {
        let x = bytes(
            "AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt",
        );
        let y = bytes(
            "AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1",
        );
        let key = Key::ecdsa(&[&[4], &x[..], &y].concat()).unwrap();
        let header = "eyJhbGciOiJFUzUxMiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9";
        let signature = "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPBu_u_sDDyYjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2";
        assert_signed(&key, header, ROAD, signature);
    }

    #[test]
    fn rfc_7520_4_4_hs256() {
        let key = Key::hmac(&bytes("hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg"));
        let header =
            "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9";
        assert_signed(
            &key,
            header,
            ROAD,
            "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0",
        );
    }

    #[test]
    fn a_key_with_the_exponent_one_verifies_nothing() {
        // With it, the signature is the padded digest itself, which anybody can write: this is one.
        let signature = "AAH_____________________________________________________________________________________________________________________________________________________________________________________________________________________________________________________________________________ADAxMA0GCWCGSAFlAwQCAQUABCDb96nUAwFESZ6rGTbAogztNcPq65L4TOWt3Cg5sRu_jA";
        let text = format!("eyJhbGciOiJSUzI1NiJ9.e30.{signature}");
        let token = Token::parse(&text).unwrap();
        for exponent in [&[1][..], &[0, 1], &[0], &[]] {
            let key = Key::rsa(&[0xff; 256], exponent).unwrap();
            assert!(!key.signed(&token), "{exponent:?}");
        }
    }

    #[test]
    fn sizes_and_forms_that_are_not_accepted() {
        assert!(Key::rsa(&[0xff; 255], &[1, 0, 1]).is_none());
        assert!(Key::rsa(&[&[0][..], &[0xff; 255]].concat(), &[1, 0, 1]).is_none());
        assert!(Key::rsa(&[0xff; 1025], &[1, 0, 1]).is_none());
        assert!(Key::ecdsa(&[2; 33]).is_none());
        assert!(Key::ecdsa(&[4; 64]).is_none());
        assert!(Key::ecdsa(&[4; 132]).is_none());
        assert!(Key::ecdsa(&[]).is_none());
        assert!(Key::ed25519(&[0; 57]).is_none());
    }
}
