//! Forged, broken and misused tokens: each row is an attack that worked somewhere, and must be refused here.

use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use longwire::auth::{
    ConnectClaims, JwkSet, JwksError, TOKEN_BYTES_MAX, TokenError, TokenSettings, TokenVerifier,
    sign_hs256,
};
use proptest::prelude::*;
use serde_json::{Value, json};

static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("auth_vectors/vectors.json")).unwrap());
const NOW_S: i64 = 1_700_000_000;
const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn vector(name: &str) -> &'static str {
    VECTORS[name].as_str().unwrap()
}

fn settings() -> TokenSettings {
    TokenSettings {
        hmac_secret_key: "secret".to_owned(),
        ..TokenSettings::default()
    }
}

fn verifier(settings: TokenSettings) -> TokenVerifier {
    TokenVerifier::new(&settings).unwrap()
}

/// HMAC, RSA and ECDSA keys.
fn all_keys() -> TokenVerifier {
    verifier(TokenSettings {
        rsa_public_key: vector("rsa_public").to_owned(),
        ecdsa_public_key: vector("p256_public").to_owned(),
        ..settings()
    })
}

/// The key set alone.
fn with_set() -> TokenVerifier {
    let mut verifier = verifier(TokenSettings::default());
    let set = JwkSet::parse(VECTORS["jwks"].to_string().as_bytes()).unwrap();
    verifier.set_jwks(Arc::new(set));
    verifier
}

fn url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn signed_with(
    header: impl AsRef<[u8]>,
    claims: impl AsRef<[u8]>,
    key: &EncodingKey,
    algorithm: Algorithm,
) -> String {
    let signed = format!("{}.{}", url(header), url(claims));
    let signature = crypto::sign(signed.as_bytes(), key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

/// Signed by the right secret, whatever stands in it.
fn hs256(header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    signed_with(
        header,
        claims,
        &EncodingKey::from_secret(b"secret"),
        Algorithm::HS256,
    )
}

fn rs256(header: &str, claims: &str, private: &str) -> String {
    let key = EncodingKey::from_rsa_pem(vector(private).as_bytes()).unwrap();
    signed_with(header, claims, &key, Algorithm::RS256)
}

fn connect(token: &str) -> Result<ConnectClaims, TokenError> {
    all_keys().verify_connect(token, NOW_S)
}

#[track_caller]
fn assert_invalid<T: std::fmt::Debug>(result: Result<T, TokenError>, what: &str) {
    assert!(
        matches!(result, Err(TokenError::Invalid(_))),
        "{what}: {result:?}"
    );
}

#[test]
fn the_table_is_not_refused_for_another_reason() {
    assert!(connect(&hs256(HS256, r#"{"sub":"1"}"#)).is_ok());
    assert!(connect(&rs256(r#"{"alg":"RS256"}"#, "{}", "rsa_private")).is_ok());
}

#[test]
fn no_algorithm() {
    for alg in [
        "none", "None", "NONE", "nOnE", "", "HS1", "hs256", "HS256 ", "PS256", "ES513", "RSA-OAEP",
        "dir", "ES256K",
    ] {
        let header = json!({ "alg": alg }).to_string();
        let unsigned = format!("{}.{}.", url(&header), url("{}"));
        assert_invalid(connect(&unsigned), alg);
        assert_invalid(connect(&format!("{unsigned}AA")), alg);
        assert_invalid(connect(&hs256(header, "{}")), alg);
    }
    for header in [
        "{}",
        r#"{"alg":null}"#,
        r#"{"alg":256}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"ALG":"HS256"}"#,
    ] {
        assert_invalid(connect(&hs256(header, "{}")), header);
    }
}

#[test]
fn a_public_key_as_a_secret() {
    let pem = vector("rsa_public");
    let der: String = pem.lines().filter(|line| !line.starts_with("--")).collect();
    let der = STANDARD.decode(der).unwrap();
    for secret in [
        pem.as_bytes(),
        pem.trim().as_bytes(),
        &der,
        vector("p256_public").as_bytes(),
        b"",
    ] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let header = format!(r#"{{"alg":"{algorithm:?}"}}"#);
            let token = signed_with(&header, "{}", &EncodingKey::from_secret(secret), algorithm);
            assert_invalid(connect(&token), &header);
            let only_rsa = verifier(TokenSettings {
                rsa_public_key: pem.to_owned(),
                ..TokenSettings::default()
            });
            assert_invalid(only_rsa.verify_connect(&token, NOW_S), &header);
        }
    }
    // Through the key set: the name of the RSA key, the algorithm of a secret.
    let header = r#"{"alg":"HS256","kid":"rsa"}"#;
    let token = signed_with(
        header,
        "{}",
        &EncodingKey::from_secret(pem.as_bytes()),
        Algorithm::HS256,
    );
    assert_invalid(with_set().verify_connect(&token, NOW_S), header);
}

#[test]
fn another_algorithm_than_the_one_that_signed() {
    for alg in ["HS384", "HS512", "RS256", "ES256", "EdDSA"] {
        assert_invalid(connect(&hs256(format!(r#"{{"alg":"{alg}"}}"#), "{}")), alg);
    }
    let header = r#"{"alg":"RS512"}"#;
    assert_invalid(connect(&rs256(header, "{}", "rsa_private")), header);
}

#[test]
fn another_key_of_the_same_kind() {
    assert_invalid(
        connect(&rs256(r#"{"alg":"RS256"}"#, "{}", "rsa_other_private")),
        "other RSA key",
    );
    assert_invalid(
        connect(&sign_hs256("Secret", "{}").unwrap()),
        "other secret",
    );
}

#[test]
fn names_of_keys_are_an_index_and_nothing_else() {
    let kids = [
        "../../dev/null",
        "/dev/null",
        "' OR 1=1 --",
        "rsa\0",
        "RSA",
        " rsa",
        "",
        "http://127.0.0.1/k",
        "secret",
        "future",
        "rsa_1024",
        "rsa_enc",
        "rsa_sign",
        "rsa_pss",
    ];
    for kid in kids {
        let header = json!({ "alg": "RS256", "kid": kid }).to_string();
        let token = rs256(&header, "{}", "rsa_private");
        let unknown = TokenError::UnknownKey {
            kid: kid.to_owned(),
        };
        assert_eq!(with_set().verify_connect(&token, NOW_S), Err(unknown));
        // Without a key set the name means nothing.
        assert!(connect(&token).is_ok(), "{kid}");
    }
    let header = r#"{"alg":"RS256","kid":"rsa_other"}"#;
    assert_invalid(
        with_set().verify_connect(&rs256(header, "{}", "rsa_private"), NOW_S),
        header,
    );
    let header = r#"{"alg":"RS256","kid":"rsa_512_only"}"#;
    assert_invalid(
        with_set().verify_connect(&rs256(header, "{}", "rsa_other_private"), NOW_S),
        header,
    );
    let header = r#"{"alg":"RS256"}"#;
    assert_invalid(
        with_set().verify_connect(&rs256(header, "{}", "rsa_private"), NOW_S),
        header,
    );
    for kid in [
        json!(1),
        json!(null),
        json!(["rsa"]),
        json!("k".repeat(257)),
    ] {
        let header = json!({ "alg": "RS256", "kid": kid }).to_string();
        assert_invalid(
            with_set().verify_connect(&rs256(&header, "{}", "rsa_private"), NOW_S),
            &header,
        );
    }
}

#[test]
fn a_secret_in_a_key_set_is_not_a_key() {
    let header = r#"{"alg":"HS256","kid":"secret"}"#;
    let unknown = TokenError::UnknownKey {
        kid: "secret".to_owned(),
    };
    assert_eq!(
        with_set().verify_connect(&hs256(header, "{}"), NOW_S),
        Err(unknown)
    );
}

#[test]
fn keys_that_the_token_brings_along() {
    let other = json!({"kty": "oct", "k": url("mine")});
    for (name, value) in [
        ("jwk", other),
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/cert")),
        ("x5c", json!(["MIIB"])),
    ] {
        let mut header = json!({"alg": "HS256"});
        header[name] = value;
        let key = EncodingKey::from_secret(b"mine");
        let token = signed_with(header.to_string(), "{}", &key, Algorithm::HS256);
        assert_invalid(connect(&token), name);
    }
}

#[test]
fn headers_that_change_the_meaning() {
    for header in [
        r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":null}"#,
        r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#,
        r#"{"alg":"HS256","b64":false}"#,
        r#"{"alg":"HS256","b64":"false"}"#,
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","\u0061lg":"HS256"}"#,
        r#"{"alg":"HS256","kid":"a","kid":"b"}"#,
        r#"{"alg":"HS256"}{"alg":"none"}"#,
        r#"{"alg":"HS256"} x"#,
        r#"["HS256"]"#,
        r#""HS256""#,
        "",
        "null",
        "{",
    ] {
        assert_invalid(connect(&hs256(header, "{}")), header);
    }
    assert_invalid(
        connect(&hs256(b"{\"alg\":\"HS256\",\"x\":\"\xff\"}", "{}")),
        "not UTF-8",
    );
}

#[test]
fn signatures_cut_and_parts_moved() {
    let token = hs256(HS256, r#"{"sub":"1"}"#);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for wrong in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        signed.to_owned(),
        format!("{signed}."),
        format!("{signed}.A"),
        format!("{signed}.{}", &signature[..signature.len() - 1]),
        format!("{signed}.{}", url(&bytes[..31])),
        format!("{signed}.{}", url(&bytes[..16])),
        format!("{signed}.{}", url(&bytes[..1])),
        format!("{signed}.{}", url([&bytes[..], &[0]].concat())),
        format!("{signed}.{}", url([0; 32])),
        format!("{token}."),
        format!("{token}.."),
        format!(".{token}"),
        format!("{token}.{signature}"),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        format!("{claims}.{header}.{signature}"),
        format!("{signature}.{claims}.{header}"),
        format!("{header}.{}.{signature}", url(r#"{"sub":"2"}"#)),
        format!("{header}.{claims}{signature}"),
        format!("Bearer {token}"),
        format!(r#"{{"protected":"{header}","payload":"{claims}","signature":"{signature}"}}"#),
    ] {
        assert_invalid(connect(&wrong), &wrong);
    }
}

/// Of one signature there is one form: a list of used tokens cannot be got round.
#[test]
fn other_forms_of_the_same_bytes() {
    let token = hs256(HS256, r#"{"sub":"1?>~~~"}"#);
    let parts: Vec<&str> = token.split('.').collect();
    let bytes: Vec<Vec<u8>> = parts
        .iter()
        .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap())
        .collect();
    let with = |index: usize, part: String| {
        let mut parts: Vec<String> = parts.iter().map(|part| part.to_string()).collect();
        parts[index] = part;
        parts.join(".")
    };
    let last = parts[2].chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet
        .chars()
        .cycle()
        .skip_while(|c| *c != last)
        .nth(1)
        .unwrap();
    let trailing_bits = format!("{}{next}", &parts[2][..parts[2].len() - 1]);
    for wrong in [
        with(2, URL_SAFE.encode(&bytes[2])),
        with(2, format!("{}=", parts[2])),
        with(2, format!("{}==", parts[2])),
        with(2, format!("{}\n", parts[2])),
        with(2, format!(" {}", parts[2])),
        with(2, trailing_bits),
        with(2, format!("{}\u{e9}", parts[2])),
        with(0, format!("{}=", parts[0])),
        with(1, format!("{}=", parts[1])),
        with(1, STANDARD.encode(&bytes[1])),
        format!("\u{feff}{token}"),
        format!("{token}\0"),
        format!("{token}\n"),
        token.to_uppercase(),
    ] {
        assert_invalid(connect(&wrong), &wrong);
    }
}

#[test]
fn size_is_bounded() {
    let token_of = |len: usize| {
        let empty = hs256(HS256, r#"{"x":""}"#).len();
        let x = "x".repeat((len - empty) * 3 / 4);
        hs256(HS256, format!(r#"{{"x":"{x}"}}"#))
    };
    let longest = token_of(TOKEN_BYTES_MAX);
    assert!(longest.len() <= TOKEN_BYTES_MAX && connect(&longest).is_ok());
    let long = token_of(TOKEN_BYTES_MAX + 4);
    assert!(long.len() > TOKEN_BYTES_MAX);
    assert_invalid(connect(&long), "one more");
    assert_invalid(connect(&"a".repeat(10_000_000)), "huge");
    assert_invalid(connect(&".".repeat(TOKEN_BYTES_MAX)), "dots");
    let deep = format!(r#"{{"info":{}1{}}}"#, "[".repeat(2500), "]".repeat(2500));
    // Whatever becomes of it, the stack holds.
    let _ = connect(&hs256(HS256, deep));
    let header = format!(
        r#"{{"alg":"HS256","x":{}1{}}}"#,
        "[".repeat(2500),
        "]".repeat(2500)
    );
    let _ = connect(&hs256(header, "{}"));
}

#[test]
fn moments() {
    let at = |claims: &str| connect(&hs256(HS256, claims));
    for (claims, error) in [
        (format!(r#"{{"exp":{NOW_S}}}"#), TokenError::Expired),
        (format!(r#"{{"exp":{}}}"#, NOW_S - 1), TokenError::Expired),
        (r#"{"exp":0}"#.to_owned(), TokenError::Expired),
        (format!(r#"{{"nbf":{}}}"#, NOW_S + 1), TokenError::Expired),
        (
            format!(r#"{{"exp":{NOW_S},"expire_at":9999999999}}"#),
            TokenError::Expired,
        ),
    ] {
        assert_eq!(at(&claims), Err(error), "{claims}");
    }
    for claims in [
        format!(r#"{{"exp":{},"nbf":{NOW_S},"iat":{NOW_S}}}"#, NOW_S + 1),
        "{}".to_owned(),
    ] {
        assert!(at(&claims).is_ok(), "{claims}");
    }
    for claim in ["exp", "nbf", "iat", "expire_at"] {
        for value in [
            "\"1800000000\"",
            "1.8e9",
            "1800000000.0",
            "1e400",
            "-1",
            "[]",
            "{}",
            "true",
            "null",
            "\"\"",
            "9223372036854775808",
            "9223372036854775807",
            "253402300800",
            "18446744073709551615",
        ] {
            let claims = format!(r#"{{"{claim}":{value}}}"#);
            assert_invalid(at(&claims), &claims);
        }
    }
}

#[test]
fn claims_of_wrong_types_or_twice() {
    for claims in [
        r#"{"sub":1}"#,
        r#"{"sub":["1"]}"#,
        r#"{"jti":1}"#,
        r#"{"iss":["a"]}"#,
        r#"{"aud":1}"#,
        r#"{"aud":[1]}"#,
        r#"{"aud":{"a":1}}"#,
        r#"{"channels":"news"}"#,
        r#"{"channels":[1]}"#,
        r#"{"channels":[""]}"#,
        r#"{"channels":{"a":1}}"#,
        r#"{"subs":["a"]}"#,
        r#"{"subs":{"a":1}}"#,
        r#"{"subs":{"a":{},"a":{}}}"#,
        r#"{"subs":{"":{}}}"#,
        r#"{"subs":{"a":{"override":1}}}"#,
        r#"{"subs":{"a":{"override":{"presence":true}}}}"#,
        r#"{"subs":{"a":{"override":{"presence":{"value":"true"}}}}}"#,
        r#"{"subs":{"a":{"b64data":"?"}}}"#,
        r#"{"b64info":"a"}"#,
        r#"{"b64info":1}"#,
        r#"{"channel":"news"}"#,
        r#"{"channel":1}"#,
        r#"{"sub":"1","sub":"2"}"#,
        r#"{"exp":1,"exp":1800000000}"#,
        r#"{"exp":1800000000,"\u0065xp":1}"#,
        r#"[]"#,
        r#""""#,
        "",
        "{} {}",
    ] {
        assert_invalid(connect(&hs256(HS256, claims)), claims);
    }
    assert_invalid(connect(&hs256(HS256, b"{\"sub\":\"\xff\"}")), "not UTF-8");
    assert_invalid(
        connect(&hs256(HS256, r#"{"sub":"\ud800"}"#)),
        "half a character",
    );
}

#[test]
fn audience_and_issuer() {
    let with = |set: fn(&mut TokenSettings)| {
        let mut settings = settings();
        set(&mut settings);
        verifier(settings)
    };
    let audience = with(|settings| settings.audience = "push".to_owned());
    let audience_regex = with(|settings| settings.audience_regex = "^push[0-9]*$".to_owned());
    for verifier in [&audience, &audience_regex] {
        for (claims, is_ok) in [
            (r#"{"aud":"push"}"#, true),
            (r#"{"aud":["mail","push"]}"#, true),
            (r#"{"aud":["mail"]}"#, false),
            (r#"{"aud":[]}"#, false),
            (r#"{"aud":""}"#, false),
            (r#"{"aud":"pusher"}"#, false),
            (r#"{"aud":"PUSH"}"#, false),
            ("{}", false),
        ] {
            let result = verifier.verify_connect(&hs256(HS256, claims), NOW_S);
            match is_ok {
                true => assert!(result.is_ok(), "{claims}"),
                false => assert_eq!(result, Err(TokenError::Invalid("aud")), "{claims}"),
            }
        }
    }
    let issuer = with(|settings| settings.issuer = "https://id".to_owned());
    let issuer_regex = with(|settings| settings.issuer_regex = "^https://.d$".to_owned());
    for verifier in [&issuer, &issuer_regex] {
        let verify = |claims: &str| verifier.verify_connect(&hs256(HS256, claims), NOW_S);
        assert!(verify(r#"{"iss":"https://id"}"#).is_ok());
        for claims in [r#"{"iss":"https://id.evil"}"#, r#"{"iss":""}"#, "{}"] {
            assert_eq!(verify(claims), Err(TokenError::Invalid("iss")), "{claims}");
        }
    }
}

#[test]
fn a_subscription_token_is_for_its_user_channel_and_client() {
    let verify = |claims: &str| {
        verifier(settings()).verify_subscribe(&hs256(HS256, claims), "42", "news", "c1", NOW_S)
    };
    for claims in [
        r#"{"sub":"42","channel":"news"}"#,
        r#"{"sub":"42","channel":"news","client":"c1"}"#,
        r#"{"sub":"42","channel":"news","client":""}"#,
    ] {
        assert!(verify(claims).is_ok(), "{claims}");
    }
    for (claims, claim) in [
        (r#"{"sub":"42","channel":"chat"}"#, "channel"),
        (r#"{"sub":"42","channel":"News"}"#, "channel"),
        (r#"{"sub":"43","channel":"news"}"#, "user"),
        (r#"{"channel":"news"}"#, "user"),
        (r#"{"sub":"","channel":"news"}"#, "user"),
        (r#"{"sub":"42","channel":"news","client":"c2"}"#, "client"),
    ] {
        assert_eq!(verify(claims), Err(TokenError::Mismatch(claim)), "{claims}");
    }
    // A connection token subscribes to nothing.
    for claims in [
        r#"{"sub":"42"}"#,
        r#"{"sub":"42","channel":""}"#,
        r#"{"sub":"42","channel":"news","client":1}"#,
    ] {
        assert_invalid(verify(claims), claims);
    }
    let expired = format!(r#"{{"sub":"43","channel":"news","exp":{NOW_S}}}"#);
    assert_eq!(verify(&expired), Err(TokenError::Expired));
}

#[test]
fn the_previous_secret_until_its_end() {
    let token = sign_hs256("old", "{}").unwrap();
    let rotating = |until| {
        verifier(TokenSettings {
            hmac_previous_secret_key: "old".to_owned(),
            hmac_previous_secret_key_valid_until: until,
            ..settings()
        })
    };
    assert!(rotating(0).verify_connect(&token, NOW_S).is_ok());
    assert!(rotating(NOW_S + 1).verify_connect(&token, NOW_S).is_ok());
    assert_invalid(rotating(NOW_S).verify_connect(&token, NOW_S), "ended");
    assert!(
        rotating(NOW_S)
            .verify_connect(&hs256(HS256, "{}"), NOW_S)
            .is_ok()
    );
}

#[test]
fn without_keys_nothing_is_accepted() {
    let none = verifier(TokenSettings::default());
    assert!(!none.is_enabled());
    for token in [hs256(HS256, "{}"), sign_hs256("", "{}").unwrap()] {
        assert_invalid(none.verify_connect(&token, NOW_S), &token);
    }
}

#[test]
fn another_claim_names_the_user() {
    let own = verifier(TokenSettings {
        user_id_claim: "uid".to_owned(),
        ..settings()
    });
    let verify = |claims: &str| own.verify_connect(&hs256(HS256, claims), NOW_S);
    assert_eq!(verify(r#"{"sub":"1","uid":"2"}"#).unwrap().user, "2");
    for claims in [r#"{"sub":"1"}"#, r#"{"uid":2}"#, r#"{"sub":1,"uid":"2"}"#] {
        assert_invalid(verify(claims), claims);
    }
}

#[test]
fn a_whole_connection_token() {
    let claims = r#"{"sub":"42","jti":"t","iat":5,"exp":1800000000,"expire_at":0,
        "info": {"a": "b\n"}, "meta": [1, 2], "channels": ["ignored"],
        "subs": {"b": {"info": {"x": 1}, "b64data": "AP8=", "override": {"presence": {"value": true},
            "join_leave": {"value": false}, "force_recovery": {}, "later": {"value": 1}}}, "a": {"override": null}}}"#;
    let claims = connect(&hs256(HS256, claims)).unwrap();
    assert_eq!(claims.expire_at_s, None);
    assert_eq!(claims.info.as_deref(), Some(&br#"{"a":"b\n"}"#[..]));
    assert_eq!(claims.meta.as_deref(), Some(&b"[1,2]"[..]));
    let identity = claims.identity();
    assert_eq!(
        (identity.user, identity.token_id, identity.issued_at_s),
        ("42", Some("t"), Some(5))
    );
    let [(first, options), (second, plain)] = &claims.subs[..] else {
        panic!("{:?}", claims.subs);
    };
    assert_eq!((first.as_str(), second.as_str()), ("b", "a"));
    assert_eq!(options.info.as_deref(), Some(&br#"{"x":1}"#[..]));
    assert_eq!(options.data.as_deref(), Some(&[0, 255][..]));
    assert_eq!(options.overrides.presence, Some(true));
    assert_eq!(options.overrides.join_leave, Some(false));
    assert_eq!(options.overrides.force_recovery, Some(false));
    assert_eq!(options.overrides.force_positioning, None);
    assert_eq!(*plain, Default::default());
}

#[test]
fn settings_of_no_use_are_named() {
    let problem = |set: &dyn Fn(&mut TokenSettings)| {
        let mut settings = TokenSettings::default();
        set(&mut settings);
        TokenVerifier::new(&settings).unwrap_err().to_string()
    };
    let text = |name: &str| vector(name).to_owned();
    for (error, start) in [
        (
            problem(&|s| s.hmac_secret_key = text("rsa_public")),
            "hmac_secret_key: holds a PEM key",
        ),
        (
            problem(&|s| s.hmac_previous_secret_key = text("rsa_public")),
            "hmac_previous_secret_key: holds",
        ),
        (
            problem(&|s| s.rsa_public_key = "x".to_owned()),
            "rsa_public_key: not a public key",
        ),
        (
            problem(&|s| s.rsa_public_key = text("rsa_private")),
            "rsa_public_key: not a public key",
        ),
        (
            problem(&|s| s.rsa_public_key = text("p256_public")),
            "rsa_public_key: not an RSA key",
        ),
        (
            problem(&|s| s.rsa_public_key = text("rsa_1024_public")),
            "rsa_public_key: has 1024 bits",
        ),
        (
            problem(&|s| s.ecdsa_public_key = text("rsa_public")),
            "ecdsa_public_key: not a key on",
        ),
        (
            problem(&|s| s.ecdsa_public_key = text("ed25519_public")),
            "ecdsa_public_key: not a key on",
        ),
        (
            problem(&|s| s.ecdsa_public_key = text("p256_private")),
            "ecdsa_public_key: not a public key",
        ),
        (
            problem(&|s| s.issuer_regex = "(".to_owned()),
            "issuer_regex: not a regular expression",
        ),
        (
            problem(&|s| s.audience_regex = "a{9999}{9999}".to_owned()),
            "audience_regex: not a",
        ),
        (
            problem(&|s| (s.audience, s.audience_regex) = ("a".to_owned(), "b".to_owned())),
            "audience_regex: is set beside audience",
        ),
    ] {
        assert!(error.starts_with(start), "{error}");
        assert!(
            !error.contains('\n') && !error.contains("-----BEGIN RSA"),
            "{error}"
        );
    }
    let pkcs1 = TokenSettings {
        rsa_public_key: text("rsa_public_pkcs1"),
        ..TokenSettings::default()
    };
    let token = rs256(r#"{"alg":"RS256"}"#, "{}", "rsa_private");
    assert!(verifier(pkcs1).verify_connect(&token, NOW_S).is_ok());
}

#[test]
fn key_sets_are_bounded_and_strict() {
    let keys = |count: usize| format!(r#"{{"keys":[{}]}}"#, vec!["{}"; count].join(","));
    assert!(JwkSet::parse(keys(64).as_bytes()).unwrap().is_empty());
    assert_eq!(
        JwkSet::parse(keys(65).as_bytes()).unwrap_err(),
        JwksError::TooManyKeys
    );
    let long = format!("{}{}", keys(0), " ".repeat(64 * 1024));
    assert_eq!(
        JwkSet::parse(long.as_bytes()).unwrap_err(),
        JwksError::TooLong
    );
    for wrong in [
        "",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":[1]}"#,
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[{"kid":"a","kid":"b"}]}"#,
        "<html>",
    ] {
        assert_eq!(
            JwkSet::parse(wrong.as_bytes()).unwrap_err(),
            JwksError::Malformed,
            "{wrong}"
        );
    }
    // A key with a member of a wrong type is left out, and the others stay.
    let mut set = VECTORS["jwks"].clone();
    for (index, (name, value)) in [("n", json!(1)), ("e", json!("AQ==")), ("x", json!("AA"))]
        .iter()
        .enumerate()
    {
        set["keys"][index][name] = value.clone();
    }
    let set = JwkSet::parse(set.to_string().as_bytes()).unwrap();
    assert!(!set.has("rsa") && !set.has("rsa_other") && !set.has("p256") && set.has("p384"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// One byte changed, and it is another token.
    #[test]
    fn no_changed_byte_is_accepted(index in 0_usize..540, at: prop::sample::Index, xor in 1_u8..=255) {
        let vector = &VECTORS["tokens"][index / 5 * 5];
        let mut token = vector["token"].as_str().unwrap().as_bytes().to_vec();
        *at.get_mut(&mut token) ^= xor;
        if let Ok(token) = std::str::from_utf8(&token) {
            prop_assert!(connect(token).is_err());
            prop_assert!(with_set().verify_connect(token, NOW_S).is_err());
        }
    }
}
