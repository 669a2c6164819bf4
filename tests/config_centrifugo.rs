//! Configurations of Centrifugo, read as they are: what carries over, what is ignored, what is refused.

use std::path::PathBuf;

use longwire::config::{
    AllowedOrigin, ChannelOptions, Config, DataFormat, DeltaType, Loaded, RecoveryMode, SlowReader,
    Sources, load,
};
use proptest::prelude::*;

/// Every section a server of its own would have, as Centrifugo 6 takes it.
const SAMPLE: &str = r##"{
  "client": {
    "allowed_origins": ["https://app.example.com", "https://*.example.org"],
    "token": {
      "hmac_secret_key": "s3cret",
      "audience": "push",
      "issuer_regex": "^https://(a|b)\\.example\\.com$",
      "user_id_claim": "uid"
    },
    "subscription_token": { "enabled": true, "hmac_secret_key": "s3cret-too" },
    "ping_interval": "50s",
    "pong_timeout": "10s",
    "channel_limit": 256,
    "queue_max_size": 2097152,
    "user_connection_limit": 8,
    "stale_close_delay": "1500ms",
    "concurrency": 8,
    "subscribe_to_user_personal_channel": {
      "enabled": true, "personal_channel_namespace": "personal", "single_connection": true
    },
    "proxy": {
      "connect": {
        "enabled": true,
        "endpoint": "http://127.0.0.1:3000/connect",
        "timeout": "1500ms",
        "http_headers": ["Cookie", "Authorization"],
        "http": { "static_headers": { "X-Backend-Key": "s3cret-three" } }
      }
    }
  },
  "channel": {
    "history_meta_ttl": "48h",
    "proxy": { "subscribe": { "endpoint": "http://127.0.0.1:3000/subscribe" } },
    "without_namespace": { "allow_subscribe_for_client": true, "force_recovery_mode": "" },
    "namespaces": [
      {
        "name": "personal",
        "presence": true
      },
      {
        "name": "chat",
        "presence": true,
        "join_leave": true,
        "history_size": 50,
        "history_ttl": "10m",
        "force_recovery": true,
        "allowed_delta_types": ["fossil"],
        "delta_publish": true,
        "channel_regex": "^[0-9]+$",
        "publication_data_format": "json_object",
        "subscribe_proxy_enabled": true,
        "publish_proxy_enabled": true,
        "publish_proxy_name": "editor",
        "subscribe_stream_proxy_enabled": false
      }
    ]
  },
  "proxies": [{ "name": "editor", "endpoint": "https://editor.example.com/publish", "timeout": "2s" }],
  "rpc": {
    "proxy": { "endpoint": "http://127.0.0.1:3000/rpc" },
    "without_namespace": { "proxy_enabled": true },
    "namespaces": [{ "name": "math", "proxy_enabled": true, "proxy_name": "editor" }]
  },
  "http_api": { "key": "s3cret-four" },
  "http_stream": { "enabled": true },
  "sse": { "enabled": true, "handler_prefix": "/connection/sse" },
  "uni_sse": { "enabled": true },
  "websocket": { "message_size_limit": 131072, "compression": true },
  "log": { "level": "debug" },
  "engine": { "type": "memory" },
  "prometheus": { "enabled": true },
  "admin": { "enabled": true, "password": "s3cret-five", "secret": "s3cret-six" },
  "grpc_api": { "enabled": false }
}
"##;

/// A configuration file; each test has names of its own.
fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn from_path(path: PathBuf) -> Result<Loaded, String> {
    let sources = Sources {
        file: Some(path),
        ..Sources::default()
    };
    load(&sources).map_err(|error| error.to_string())
}

fn from_file(name: &str, text: &str) -> Result<Loaded, String> {
    let shorten = |error: String| error.replace(concat!(env!("CARGO_TARGET_TMPDIR"), "/"), "");
    from_path(file(name, text)).map_err(shorten)
}

fn from_env(env: &[(&str, &str)]) -> Result<Loaded, String> {
    let sources = Sources {
        env: env.iter().map(|(k, v)| (k.into(), v.into())).collect(),
        ..Sources::default()
    };
    load(&sources).map_err(|error| error.to_string())
}

#[test]
fn clients_of_a_configuration_in_json_carry_over() {
    let client = from_file("clients.json", SAMPLE).unwrap().config.client;
    let limits = &client.limits;
    assert_eq!(
        limits.allowed_origins[0].to_string(),
        "https://app.example.com"
    );
    assert!(!limits.allowed_origins.contains(&AllowedOrigin::Any));
    assert_eq!((limits.ping_interval_s, limits.pong_timeout_s), (50, 10));
    assert_eq!(
        (limits.channel_limit, limits.user_connection_limit),
        (256, 8)
    );
    assert_eq!(
        (limits.queue_max_size, limits.stale_close_delay_s),
        (2_097_152, 2)
    );
    assert!(!limits.insecure && !limits.allow_anonymous_connect_without_token);
    assert_eq!(client.token.hmac_secret_key, "s3cret");
    assert!(
        client
            .token
            .issuer_regex
            .regex()
            .unwrap()
            .is_match("https://b.example.com")
    );
    assert_eq!(client.for_subscriptions().hmac_secret_key, "s3cret-too");
    assert!(client.subscribe_to_user_personal_channel.single_connection);
    let connect = &client.proxy.connect;
    assert!(connect.enabled);
    assert_eq!(connect.proxy.timeout_ms, 1_500);
    assert_eq!(connect.proxy.http_headers, ["Cookie", "Authorization"]);
    let header = ("X-Backend-Key".to_owned(), "s3cret-three".to_owned());
    assert_eq!(connect.proxy.static_headers, [header]);
}

#[test]
fn channels_of_a_configuration_in_json_carry_over() {
    let config = from_file("channels.json", SAMPLE).unwrap().config;
    let channel = &config.channel;
    let chat = channel.resolve("chat:1").unwrap();
    assert_eq!((chat.history_size, chat.history_ttl_s), (50, 600));
    assert_eq!(channel.history_meta_ttl_s(chat), 172_800);
    assert_eq!(chat.allowed_delta_types, [DeltaType::Fossil]);
    assert_eq!(chat.force_recovery_mode, RecoveryMode::Stream);
    assert_eq!(chat.slow_reader, SlowReader::Disconnect);
    assert_eq!(channel.data_format(chat), DataFormat::JsonObject);
    assert!(
        channel.check_name("chat:1", chat).is_ok() && channel.check_name("chat:x", chat).is_err()
    );
    let editor = config.proxy(&chat.publish_proxy_name, &channel.proxy.publish);
    assert_eq!(
        editor.unwrap().endpoint,
        "https://editor.example.com/publish"
    );
    let own = config.proxy(&chat.subscribe_proxy_name, &channel.proxy.subscribe);
    assert_eq!(own.unwrap().endpoint, "http://127.0.0.1:3000/subscribe");
    let strict = ChannelOptions {
        allow_subscribe_for_client: true,
        ..ChannelOptions::default()
    };
    assert_eq!(channel.without_namespace, strict);
    assert!(channel.resolve("nobody:1").is_err());
    assert_eq!(config.rpc.resolve("math:sum").unwrap().proxy_name, "editor");
    assert!(config.rpc.resolve("sum").unwrap().proxy_enabled);
    assert!(config.rpc.resolve("other:sum").is_none());
}

#[test]
fn the_rest_of_a_configuration_in_json_carries_over_or_is_named() {
    let loaded = from_file("rest.json", SAMPLE).unwrap();
    let config = &loaded.config;
    assert!(config.http_stream.enabled && config.sse.enabled && config.uni_sse.enabled);
    assert!(!config.uni_websocket.enabled);
    assert_eq!(config.websocket.message_bytes, 131_072);
    assert_eq!(config.full_api_keys().collect::<Vec<_>>(), ["s3cret-four"]);
    let warned = loaded.warnings.join("\n");
    for key in [
        "client.concurrency",
        "sse.handler_prefix",
        "engine.type",
        "prometheus.enabled",
        "admin.password",
        "grpc_api.enabled",
        "channel.namespaces[chat].subscribe_stream_proxy_enabled",
    ] {
        assert!(
            warned.contains(&format!("ignored: {key} (")),
            "{key}\n{warned}"
        );
    }
    assert_eq!(loaded.warnings.len(), 9, "{warned}");
    let text = format!("{:?}{}{warned}", loaded.config, loaded.to_toml());
    assert!(!text.contains("s3cret"));
}

#[test]
fn places_in_json_are_lines() {
    let loaded = from_file("places.json", SAMPLE).unwrap();
    let line = |key| {
        loaded
            .origin(key)
            .to_string()
            .rsplit(':')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(line("client.token.audience"), "6");
    assert_eq!(line("channel.namespaces[chat].history_size"), "44");
    assert_eq!(line("channel.namespaces[personal].history_size"), "default");
}

#[test]
fn what_check_prints_of_it_is_a_file_that_gives_the_same() {
    // Secrets are not printed.
    let sample = SAMPLE
        .replace("s3cret-three", "***")
        .replace("s3cret-four", "***");
    let sample = sample.replace("s3cret-too", "***").replace("s3cret", "***");
    let first = from_file("printed_centrifugo.json", &sample).unwrap();
    let second = from_file("printed_centrifugo.toml", &first.to_toml()).unwrap();
    assert_eq!(first.config, second.config);
}

#[test]
fn the_suite_configuration_is_as_the_suites_expect() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/centrifugo-suite.toml");
    let loaded = from_path(path).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let config = &loaded.config;
    assert_eq!(config.listen[0].to_string(), "127.0.0.1:8000");
    assert!(config.client.limits.insecure && config.http_stream.enabled && config.sse.enabled);
    assert_eq!(config.client.token.hmac_secret_key, "secret");
    assert_eq!(config.full_api_keys().collect::<Vec<_>>(), ["test-api-key"]);
    let sizes: Vec<(&str, usize)> = (config.channel.namespaces.iter())
        .map(|(name, options)| (name.as_str(), options.history_size))
        .collect();
    assert_eq!(
        sizes,
        [("delta", 100), ("recovery", 100), ("smallhistory", 2)]
    );
}

#[test]
fn without_a_word_on_clients_the_server_is_open_on_this_machine_only() {
    let is_anonymous = |env: &[(&str, &str)]| {
        let config = from_env(env).unwrap().config;
        assert_eq!(
            config.channel.without_namespace,
            ChannelOptions::development()
        );
        config.client.limits.allow_anonymous_connect_without_token
    };
    let reachable = ("LONGWIRE_LISTEN", "127.0.0.1:8000,0.0.0.0:8000");
    assert!(is_anonymous(&[]));
    assert!(!is_anonymous(&[reachable, ("LONGWIRE_API_KEYS", "k")]));
    assert!(is_anonymous(&[reachable, ("LONGWIRE_INSECURE", "true")]));
    // Nobody knows yet where these sockets are.
    assert!(!is_anonymous(&[("LISTEN_FDS", "1")]));
}

#[test]
fn one_word_on_clients_or_channels_makes_the_rest_strict() {
    for env in [
        ("LONGWIRE_CLIENT__TOKEN__HMAC_SECRET_KEY", "s"),
        ("LONGWIRE_CHANNEL__WITHOUT_NAMESPACE__PRESENCE", "true"),
        ("LONGWIRE_CHANNEL__MAX_LENGTH", "100"),
    ] {
        let config = from_env(&[env]).unwrap().config;
        assert!(
            !config.client.limits.allow_anonymous_connect_without_token,
            "{env:?}"
        );
        assert!(
            !config.channel.without_namespace.allow_subscribe_for_client,
            "{env:?}"
        );
    }
    let text = "[[channel.namespaces]]\nname = \"chat\"\n";
    let config = from_file("strict.toml", text).unwrap().config;
    assert_eq!(config.channel.without_namespace, ChannelOptions::default());
    for text in [
        "channel.namespaces = []\n",
        "[channel]\n",
        "[client]\n",
        "[client]\nconcurrency = 8\n",
    ] {
        let config = from_file("strict_empty.toml", text).unwrap().config;
        assert_eq!(config.channel.without_namespace, ChannelOptions::default());
    }
}

#[test]
fn options_can_be_given_in_the_environment() {
    let config = from_env(&[
        ("LONGWIRE_CHANNEL__WITHOUT_NAMESPACE__HISTORY_SIZE", "7"),
        ("LONGWIRE_CHANNEL__WITHOUT_NAMESPACE__HISTORY_TTL", "1h30m"),
        (
            "LONGWIRE_RPC__PROXY__HTTP__STATIC_HEADERS",
            r#"{"X-A":"1, 2"}"#,
        ),
    ]);
    let config = config.unwrap().config;
    assert_eq!(config.channel.without_namespace.history_ttl_s, 5_400);
    let header = ("X-A".to_owned(), "1, 2".to_owned());
    assert_eq!(config.rpc.proxy.static_headers, [header]);
    let error = from_env(&[("LONGWIRE_CHANNEL__NAMESPACES", "[]")]).unwrap_err();
    assert!(
        error.starts_with("environment LONGWIRE_CHANNEL__NAMESPACES: unknown setting"),
        "{error}"
    );
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let options = "channel.without_namespace";
    for (text, expected) in [
        (
            "[client]\nping_interval = \"8s\"\n",
            "default: client.pong_timeout = \"8s\": must be below client.ping_interval = \"8s\"; \
             lower the first or raise the second".to_owned(),
        ),
        (
            "[channel.without_namespace]\npong_timeout = \"40s\"\n",
            format!("rule.toml:2: {options}.pong_timeout = \"40s\": must be below {options}.ping_interval = \"30s\"; \
             lower the first or raise the second"),
        ),
        (
            "[channel.without_namespace]\nhistory_size = 10\n",
            format!("rule.toml:2: {options}.history_size = 10: keeps nothing without history_ttl; \
             set it too, as in history_ttl = \"300s\""),
        ),
        (
            "[channel.without_namespace]\nhistory_ttl = \"10s\"\n",
            format!("rule.toml:2: {options}.history_ttl = \"10s\": keeps nothing without history_size; \
             set it too, as in history_size = 100"),
        ),
        (
            "[channel.without_namespace]\nhistory_size = 1\nhistory_ttl = \"10s\"\nhistory_meta_ttl = \"5s\"\n",
            format!("rule.toml:3: {options}.history_ttl = \"10s\": exceeds history_meta_ttl = \"5s\"; \
             lower the first or raise the second"),
        ),
        (
            "[[channel.namespaces]]\nname = \"chat\"\nforce_recovery = true\n",
            "rule.toml:3: channel.namespaces[chat].force_recovery = true: needs a history; \
             set history_size and history_ttl".to_owned(),
        ),
        (
            "[channel.without_namespace]\nallow_positioning = true\n",
            format!("rule.toml:2: {options}.allow_positioning = true: needs a history; set history_size and history_ttl"),
        ),
        (
            "[channel.without_namespace]\nhistory_size = 1\nhistory_ttl = \"10s\"\nauto_cache_recover = true\n",
            format!("rule.toml:4: {options}.auto_cache_recover = true: needs force_recovery_mode = \"cache\""),
        ),
        (
            "[channel.without_namespace]\nconflate_by = \"symbol\"\n",
            format!("rule.toml:2: {options}.conflate_by = \"symbol\": needs slow_reader = \"keep_newest\""),
        ),
        (
            "[channel.without_namespace]\nsubscribe_proxy_enabled = true\n",
            format!("rule.toml:2: {options}.subscribe_proxy_enabled = true: there is nobody to ask; \
             set channel.proxy.subscribe.endpoint"),
        ),
        (
            "[channel.without_namespace]\npublish_proxy_name = \"x\"\n",
            format!("rule.toml:2: {options}.publish_proxy_name = \"x\": no backend has this name; add it to [[proxies]]"),
        ),
        (
            "[rpc.without_namespace]\nproxy_enabled = true\n",
            "rule.toml:2: rpc.without_namespace.proxy_enabled = true: there is nobody to ask; \
             set rpc.proxy.endpoint".to_owned(),
        ),
        (
            "[client.proxy.connect]\nenabled = true\n",
            "rule.toml:2: client.proxy.connect.enabled = true: there is nobody to ask; \
             set client.proxy.connect.endpoint".to_owned(),
        ),
        (
            "[[proxies]]\nname = \"default\"\nendpoint = \"http://a\"\n",
            "default: proxies[default].name = \"default\": stands for client.proxy, channel.proxy and rpc.proxy; \
             choose another name".to_owned(),
        ),
        (
            "[[proxies]]\nname = \"editor\"\n",
            "default: proxies[editor].endpoint = \"\": there is nobody to ask; set it".to_owned(),
        ),
        (
            "[client.subscription_token]\nenabled = true\n",
            "rule.toml:2: client.subscription_token.enabled = true: has no key, so no token could be good; \
             set client.subscription_token.hmac_secret_key or another key".to_owned(),
        ),
        (
            "[client.token]\njwks_file = \"a\"\njwks_public_endpoint = \"http://a\"\n",
            "rule.toml:2: client.token.jwks_file = \"a\": is one of two places for the same keys; \
             remove it or jwks_public_endpoint".to_owned(),
        ),
        (
            "[client.token]\nhmac_previous_secret_key = \"s3cret\"\n",
            "rule.toml:2: client.token.hmac_previous_secret_key = \"***\": is for the time when hmac_secret_key is new; \
             set hmac_secret_key".to_owned(),
        ),
        (
            "[client.subscribe_to_user_personal_channel]\nenabled = true\npersonal_channel_namespace = \"me\"\n",
            "rule.toml:3: client.subscribe_to_user_personal_channel.personal_channel_namespace = \"me\": \
             no namespace has this name; add it to [[channel.namespaces]]".to_owned(),
        ),
        (
            "[client.subscribe_to_user_personal_channel]\nenabled = true\nsingle_connection = true\n",
            "rule.toml:3: client.subscribe_to_user_personal_channel.single_connection = true: \
             needs presence = true in the options of the personal channels".to_owned(),
        ),
        (
            "[channel]\nuser_boundary = \"\"\n[client.subscribe_to_user_personal_channel]\nenabled = true\n",
            "rule.toml:4: client.subscribe_to_user_personal_channel.enabled = true: needs a channel.user_boundary to \
             make names of channels from names of users".to_owned(),
        ),
        (
            "[[http_api.keys]]\nmethods = [\"publish\"]\n",
            "rule.toml:1: http_api.keys[1].key has no key; add key = \"...\"".to_owned(),
        ),
    ] {
        assert_eq!(from_file("rule.toml", text).unwrap_err(), expected);
    }
}

#[test]
fn wrong_tables_name_their_place() {
    for (text, expected) in [
        (
            "[[channel.namespaces]]\nname = \"chat\"\nhistory_size = -1\n",
            "table.toml:3: channel.namespaces[chat].history_size = -1: out of range; takes 0 to 1000000",
        ),
        (
            "[[channel.namespaces]]\nname = \"chat\"\nhistory_ttl = 300\n",
            "table.toml:3: channel.namespaces[chat].history_ttl = 300: wrong type; \
             takes a time from 0s to 315360000s, such as 1s, 5m or 1h",
        ),
        (
            "[[channel.namespaces]]\nname = \"chat\"\npresense = true\n",
            "table.toml:3: unknown setting channel.namespaces[chat].presense; did you mean presence?",
        ),
        (
            "[[channel.namespaces]]\nname = \"chat\"\nsubscription_type = \"map\"\n",
            "table.toml:3: channel.namespaces[chat].subscription_type (map and shared poll subscriptions) is not \
             supported; leave it out; streams are what there is",
        ),
        (
            "[[channel.namespaces]]\npresence = true\n",
            "table.toml:2: channel.namespaces: a table has no name; add name = \"...\"",
        ),
        (
            "[[channel.namespaces]]\nname = \"a:b\"\n",
            "table.toml:2: channel.namespaces: name is not valid; takes a name of two or more letters, digits, _, - and .",
        ),
        (
            "[[channel.namespaces]]\nname = \"aa\"\n[[channel.namespaces]]\nname = \"aa\"\n",
            "table.toml:4: channel.namespaces has aa twice; remove one of them",
        ),
        (
            "[channel.namespaces]\nchat = 1\n",
            "table.toml:1: channel.namespaces is a list of tables; write [[channel.namespaces]] and the settings of \
             each on the lines below",
        ),
        (
            "channel.namespaces = \"chat\"\n",
            "table.toml:1: channel.namespaces is a list of tables; write [[channel.namespaces]] and the settings of \
             each on the lines below",
        ),
        (
            "[[http_api.keys]]\nkey = \"s3c ret\"\n",
            "table.toml:2: http_api.keys[1].key = \"***\": not valid; \
             takes a key of printable ASCII characters without spaces; or nothing",
        ),
        (
            "[channel.without_namespace]\nchannel_regex = \"(\"\n",
            "table.toml:2: channel.without_namespace.channel_regex = \"(\": not a regular expression; \
             takes a regular expression; or nothing",
        ),
        (
            "[channel.without_namespace]\nallowed_delta_types = [\"xdelta\"]\n",
            "table.toml:2: channel.without_namespace.allowed_delta_types = [\"xdelta\"]: item 1 is not valid; \
             takes a list that may have fossil",
        ),
        (
            "[rpc.proxy]\nendpoint = \"grpc://127.0.0.1:1\"\n",
            "table.toml:2: rpc.proxy.endpoint = \"grpc://127.0.0.1:1\": not valid; \
             takes a URL such as http://127.0.0.1:3000/hook; or nothing",
        ),
    ] {
        assert_eq!(from_file("table.toml", text).unwrap_err(), expected);
    }
}

#[test]
fn what_would_be_lost_is_refused_with_a_cure() {
    for (text, start) in [
        (
            r#"{"http_server":{"internal_port":"9000"}}"#,
            "http_server.internal_port (port for the server API, metrics and the like only) is not supported",
        ),
        (
            r#"{"engine":{"type":"redis"}}"#,
            "engine.type (a broker between several servers) is not supported",
        ),
        (
            r#"{"client":{"insecure_skip_token_signature_verify":true}}"#,
            "client.insecure_skip_token_signature_verify (",
        ),
        (
            r#"{"consumers":[{"name":"k"}]}"#,
            "consumers (publications from Kafka",
        ),
        (
            r#"{"sse":{"handler_prefix":"/sse"}}"#,
            "sse.handler_prefix (path of an endpoint)",
        ),
        (
            r#"{"http_server":{"tls":{"enabled":true}}}"#,
            "http_server.tls.enabled (TLS)",
        ),
    ] {
        let error = from_file("foreign.json", text).unwrap_err();
        assert!(
            error.starts_with(&format!("foreign.json:1: {start}")),
            "{error}"
        );
    }
    let error = from_env(&[("LONGWIRE_GRPC_API__ENABLED", "true")]).unwrap_err();
    assert!(error.contains("unknown setting"), "{error}");
}

#[test]
fn variables_and_files_in_a_form_that_is_not_read_are_named() {
    let name = "CENTRIFUGO_CLIENT_TOKEN_HMAC_SECRET_KEY";
    let warnings = from_env(&[(name, "s3cret")]).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with(&format!("environment {name}: ignored: ")));
    assert!(!warnings[0].contains("s3cret"));
    let error = from_file("config.yaml", "client:\n  insecure: true\n").unwrap_err();
    assert_eq!(
        error,
        "config.yaml: YAML is not read; convert the file to JSON or TOML, as with yq -o json"
    );
}

#[test]
fn json_that_is_none_names_its_line() {
    for (text, start) in [
        ("{\n\"echo\": tru\n}", "bad.json:2: not valid JSON: "),
        ("{\"echo\": true}\n}", "bad.json:2: not valid JSON: "),
        ("[1]", "bad.json:1: not valid JSON: not an object"),
        ("{\"echo\":\n1}", "bad.json:2: echo = 1: wrong type"),
        ("{\"shards\": 1.5}", "bad.json:1: shards = 1.5: wrong type"),
        ("{\"shards\": -1}", "bad.json:1: shards = -1: out of range"),
        (
            "{\"echo\":true,\n\"echo\":true}",
            "bad.json:2: echo is set twice",
        ),
        (
            "{\"listen\":[1]}",
            "bad.json:1: listen = a list of other things than strings",
        ),
    ] {
        let error = from_file("bad.json", text).unwrap_err();
        assert!(error.starts_with(start), "{error}");
    }
    let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let error = from_file("deep.json", &deep).unwrap_err();
    assert!(
        error.starts_with("deep.json:1: not valid JSON: "),
        "{}",
        &error[..80]
    );
    let null = from_file("null.json", "{\"echo\": null}").unwrap();
    assert_eq!(null.config, Config::default());
}

#[test]
fn a_key_for_the_server_api_lets_others_reach_the_server() {
    let listen = "listen = [\"0.0.0.0:8000\"]\n";
    for (text, is_good) in [
        ("", false),
        ("[http_api]\nkey = \"k\"\n", true),
        ("[http_api]\ninsecure = true\n", true),
        (
            "[[http_api.keys]]\nkey = \"k\"\nmethods = [\"publish\"]\n",
            true,
        ),
    ] {
        let loaded = from_file("reach.toml", &format!("{listen}{text}"));
        assert_eq!(loaded.is_ok(), is_good, "{text}");
    }
}

#[test]
fn likely_mistakes_are_worth_a_warning() {
    let text = "listen = [\"0.0.0.0:8000\"]\napi_keys = [\"k\"]\nclient.insecure = true\n\
                [channel.without_namespace]\ndelta_publish = true\n";
    let warnings = from_file("warned.toml", text).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("client.insecure = true: whoever"));
    assert!(warnings[1].contains("channel.without_namespace.delta_publish = true: has no effect"));
}

#[test]
fn the_address_of_a_centrifugo_is_listened_on() {
    let key = r#""http_api":{"key":"k"}"#;
    for (text, expected) in [
        (r#"{"http_server":{"port":9000},"#, Ok("0.0.0.0:9000")),
        (
            r#"{"http_server":{"address":"127.0.0.1"},"#,
            Ok("127.0.0.1:8000"),
        ),
        (
            r#"{"http_server":{"address":"::1","port":"9000"},"#,
            Ok("[::1]:9000"),
        ),
        (r#"{"http_server":{"address":""},"#, Ok("0.0.0.0:8000")),
        (
            r#"{"http_server":{"address":"example"},"#,
            Err("address.json:1: listen = [\"example:8000\"]: item 1 is not valid"),
        ),
        (
            r#"{"http_server":{"port":70000},"#,
            Err("address.json:1: listen = [\"0.0.0.0:70000\"]: item 1 is not valid"),
        ),
        (
            r#"{"listen":["127.0.0.1:1"],"http_server":{"port":9000},"#,
            Err("address.json:1: listen is set twice"),
        ),
    ] {
        match (
            from_file("address.json", &format!("{text}{key}}}")),
            expected,
        ) {
            (Ok(loaded), Ok(address)) => {
                let listen = loaded.config.listen.iter().map(ToString::to_string);
                assert_eq!(listen.collect::<Vec<_>>(), [address]);
            }
            (Err(error), Err(start)) => assert!(error.starts_with(start), "{error}"),
            (result, _) => panic!("{text}: {result:?}"),
        }
    }
    let error = from_file("reachable.json", r#"{"http_server":{"port":9000}}"#).unwrap_err();
    assert!(
        error.contains("0.0.0.0:9000 is reachable from other machines"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn any_change_of_a_file_gives_a_configuration_or_one_line(
        start in 0..SAMPLE.len(),
        length in 0..40_usize,
        instead in "[\\PC\n]{0,8}",
    ) {
        let mut text = SAMPLE.to_owned();
        let end = (start + length).min(text.len());
        text.replace_range(start..end, &instead);
        if let Err(error) = from_file("any.json", &text) {
            prop_assert!(!error.contains(char::is_control), "{error:?}");
        }
    }
}
