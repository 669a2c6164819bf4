//! What the README says of settings, URLs, metrics and files, held against the program.
//!
//! `UPDATE_README=1 cargo test --test readme` writes the table of settings anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longwire::config::{
    Admission, SETTINGS, channel_options_markdown, proxy_markdown, table_markdown, token_markdown,
};
use longwire::hooks::{
    CallId, Completion, HookOutcome, HooksSettings, KeySource, KeySourceSettings, Keys,
    TargetSettings,
};
use longwire::memory::Memory;
use longwire::metrics::{CloseReason, PublicationRefusal, RefusalReason, ShardMetrics, render};
use longwire::proto::close::CloseCode;

/// Settings that are lists of tables.
const LISTS: &[&str] = &["channel.namespaces", "rpc.namespaces", "http_api.keys"];

#[test]
fn the_tables_of_settings_are_the_programs() {
    let mut updated = readme();
    for (name, table) in [
        ("settings", table_markdown()),
        ("channel-options", channel_options_markdown()),
        ("tokens", token_markdown()),
        ("backends", proxy_markdown()),
    ] {
        let (start, end) = section(&updated, name);
        if updated[start..end].trim() != table.trim() {
            updated.replace_range(start..end, &format!("\n{table}"));
        }
    }
    if updated == readme() {
        return;
    }
    let update = "UPDATE_README=1 cargo test --test readme";
    assert!(
        std::env::var_os("UPDATE_README").is_some(),
        "out of date: {update}"
    );
    // Renamed into place: the other tests read the file at the same time.
    let written = root().join(".README.md.new");
    fs::write(&written, updated).unwrap();
    fs::rename(written, root().join("README.md")).unwrap();
}

#[test]
fn the_table_of_urls_is_that_of_the_routes() {
    let readme = readme();
    let (start, end) = section(&readme, "urls");
    let named: BTreeSet<String> = backticked(&readme[start..end])
        .filter_map(|code| code.split(' ').find(|word| word.starts_with('/')))
        .map(|path| path.replace("{channel}", "").replace("{method}", ""))
        .collect();
    let routes = fs::read_to_string(root().join("src/endpoints/mod.rs")).unwrap();
    let routed: BTreeSet<String> = routes
        .lines()
        .filter_map(|line| line.trim().strip_prefix("path: Path::"))
        .filter_map(|path| path.split('"').nth(1).map(str::to_owned))
        .collect();
    assert!(!routed.is_empty());
    assert_eq!(named, routed);
}

#[test]
fn metrics_in_the_readme_and_at_the_url_are_the_same() {
    let memory = Memory::new(&Admission::default(), || ());
    let mut text = render(&[Arc::new(ShardMetrics::default())], &memory, 0);
    text += &hooks_metrics();
    let rendered: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let readme = readme();
    let named: BTreeSet<&str> = backticked(&readme)
        .map(|code| code.split('{').next().unwrap_or(code))
        .filter(|name| name.starts_with("longwire_") || name.starts_with("process_"))
        .collect();
    assert_eq!(named, rendered);
}

/// What is shown of the backend where one is configured.
fn hooks_metrics() -> String {
    struct Nobody;
    impl Completion for Nobody {
        fn complete(&mut self, _: CallId, _: HookOutcome) {}
        fn keys(&mut self, _: Option<u16>, _: KeySource, _: Keys) {}
        fn flush(&mut self) -> bool {
            false
        }
    }
    let (name, url) = ("test".to_owned(), "http://127.0.0.1:1/".to_owned());
    let settings = HooksSettings {
        targets: vec![TargetSettings {
            name: name.clone(),
            url: url.clone(),
            timeout_ms: 1000,
            http_headers: Vec::new(),
            static_headers: Vec::new(),
        }],
        key_sources: vec![KeySourceSettings {
            name,
            url,
            refresh_interval_s: 600,
        }],
        ..HooksSettings::default()
    };
    let hooks = longwire::hooks::start(&settings, Nobody).unwrap();
    let mut text = String::new();
    hooks.metrics().render(&mut text);
    text
}

#[test]
fn every_reason_is_explained() {
    let readme = readme();
    let named: BTreeSet<&str> = backticked(&readme).collect();
    let labels = [
        CloseReason::LABELS,
        RefusalReason::LABELS,
        PublicationRefusal::LABELS,
    ];
    for label in labels.concat() {
        assert!(
            named.contains(label),
            "README.md does not name the reason {label}"
        );
    }
}

#[test]
fn the_close_codes_of_this_server_are_explained() {
    let readme = readme();
    let (start, end) = section(&readme, "close-codes");
    let codes = [
        CloseCode::GoingAway,
        CloseCode::ProtocolError,
        CloseCode::InvalidPayload,
        CloseCode::PolicyViolation,
        CloseCode::MessageTooBig,
        CloseCode::TryAgainLater,
        CloseCode::Expired,
        CloseCode::CannotResume,
        CloseCode::SlowConsumer,
        CloseCode::HeartbeatTimeout,
    ];
    for code in codes {
        let cell = format!("| {} |", code.code());
        assert!(
            readme[start..end].contains(&cell),
            "README.md does not explain {code:?}"
        );
    }
}

#[test]
fn settings_named_in_the_pages_exist() {
    let sections: BTreeSet<&str> = SETTINGS
        .iter()
        .filter_map(|setting| Some(setting.key.split_once('.')?.0))
        .collect();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for code in backticked(&text) {
            let key = code.split([' ', '=']).next().unwrap_or(code);
            let is_key = key
                .split_once('.')
                .is_some_and(|(section, name)| sections.contains(section) && !name.contains('.'));
            let is_known = SETTINGS.iter().any(|setting| {
                setting.key == key
                    || setting.key.starts_with(&format!("{key}."))
                    || setting.key.ends_with(&format!(".{key}"))
            });
            let is_known = is_known || LISTS.contains(&key);
            assert!(!is_key || is_known, "{}: no setting {key}", page.display());
        }
    }
}

#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let path = link.split('#').next().unwrap_or(link);
            let is_local = !path.is_empty() && !path.contains("://");
            let exists = page.parent().unwrap().join(path).exists();
            assert!(!is_local || exists, "{}: no {link}", page.display());
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The README and the pages on tuning.
fn pages() -> Vec<PathBuf> {
    let tuning = fs::read_dir(root().join("tuning")).unwrap();
    let mut pages: Vec<PathBuf> = tuning
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.push(root().join("README.md"));
    pages
}

/// Where the part between the two comments `<!-- name -->` and `<!-- end of name -->` lies.
fn section(text: &str, name: &str) -> (usize, usize) {
    let begin = format!("<!-- {name} -->");
    let start = text.find(&begin).expect(&begin) + begin.len();
    let end = format!("<!-- end of {name} -->");
    (start, text.find(&end).expect(&end))
}

/// What stands between backticks, outside blocks of code.
fn backticked(text: &str) -> impl Iterator<Item = &str> {
    let mut in_block = false;
    text.lines()
        .filter(move |line| {
            let is_fence = line.contains("```");
            in_block ^= is_fence;
            !in_block && !is_fence
        })
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}
