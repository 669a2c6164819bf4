//! A token: whatever stands in it, and whatever the key signed, it is refused or says what its claims say.

use longwire::auth::{TokenSettings, TokenVerifier, sign_hs256};

pub const SEEDS: &[&[u8]] = &[
    br#"{"sub":"42","exp":1800000000,"iat":1,"nbf":1,"jti":"t","aud":["a","b"],"iss":"i","channels":["a","b"]}"#,
    br#"{"sub":"42","channel":"news","client":"c","info":{"a":[1, "\"x\\"]},"b64data":"AP8=","expire_at":0}"#,
    br#"{"subs":{"a":{"info":1,"data":null,"override":{"presence":{"value":true},"force_recovery":{}}}},"meta":[]}"#,
    b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxIn0.AAAA",
    b"eyJhbGciOiJub25lIn0.e30.",
    br#"{"alg":"HS256","kid":"k","crit":["exp"],"b64":false,"typ":"JWT"}"#,
];

const NOW_S: i64 = 1_700_000_000;

/// The input is a token, a header, and claims with the right signature.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let verifier = TokenVerifier::new(&TokenSettings {
        hmac_secret_key: "secret".to_owned(),
        ..TokenSettings::default()
    });
    let verifier = verifier.expect("these settings are right");
    assert!(verifier.verify_connect(text, NOW_S).is_err(), "forged");
    let encode = |bytes: &[u8]| {
        let token = sign_hs256("", std::str::from_utf8(bytes).unwrap_or_default());
        token.map(|token| token.split('.').nth(1).map(str::to_owned))
    };
    if let Ok(Some(header)) = encode(input) {
        let token = format!("{header}.e30.AAAA");
        assert!(verifier.verify_connect(&token, NOW_S).is_err(), "forged");
    }
    if let Ok(token) = sign_hs256("secret", text) {
        read(&verifier, &token);
    }
}

fn read(verifier: &TokenVerifier, token: &str) {
    if let Ok(claims) = verifier.verify_connect(token, NOW_S) {
        assert!(claims.subs.iter().all(|(channel, _)| !channel.is_empty()));
        assert!(!claims.meta.is_some_and(|json| json.contains(&b'\n')));
        let again = verifier.verify_connect(token, i64::MAX);
        assert!(again.is_ok() || claims.expire_at_s != Some(i64::MAX));
    }
    if let Ok(claims) = verifier.verify_subscribe(token, "42", "news", "c", NOW_S) {
        assert_eq!(
            (claims.user.as_str(), claims.channel.as_str()),
            ("42", "news")
        );
    }
}
