//! Calls to a backend that misbehaves in every way a backend can.

mod backend;
mod encrypted;

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use longwire::hooks::{
    Busy, CallId, Completion, HookCall, HookOutcome, HooksHandle, HooksSettings, KeySource,
    KeySourceSettings, Keys, Target, TargetSettings, Unavailable, start,
};

use backend::{Backend, answer};

/// Longer than anything a test waits for in vain.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
enum News {
    Outcome(CallId, HookOutcome),
    Keys(Option<u16>, KeySource, Keys),
}

struct Sink(Sender<News>);

impl Completion for Sink {
    fn complete(&mut self, id: CallId, outcome: HookOutcome) {
        let _ = self.0.send(News::Outcome(id, outcome));
    }

    fn keys(&mut self, shard: Option<u16>, source: KeySource, keys: Keys) {
        let _ = self.0.send(News::Keys(shard, source, keys));
    }

    fn flush(&mut self) -> bool {
        false
    }
}

/// The hooks as a shard sees them.
struct Hooks {
    handle: HooksHandle,
    news: Receiver<News>,
    _alone: MutexGuard<'static, ()>,
}

/// A thread of hooks takes a file table of its own, with copies of whatever is open in the process: sockets of
/// another test's backend among them, which would then stay open when that one closes them.
static ALONE: Mutex<()> = Mutex::new(());

impl Hooks {
    fn start(settings: &HooksSettings) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, news) = channel();
        let handle = start(settings, Sink(sender)).unwrap();
        Self {
            handle,
            news,
            _alone: alone,
        }
    }

    fn submit(&self, target: u16, tag: u32) {
        self.handle.submit(call(target, tag)).unwrap();
    }

    fn next(&self) -> (u32, HookOutcome) {
        match self.news.recv_timeout(PATIENCE).unwrap() {
            News::Outcome(id, outcome) => (id.tag, outcome),
            news => panic!("{news:?}"),
        }
    }

    fn next_keys(&self) -> (Option<u16>, Keys) {
        match self.news.recv_timeout(PATIENCE).unwrap() {
            News::Keys(shard, source, keys) => {
                assert_eq!(source, KeySource(0));
                (shard, keys)
            }
            news => panic!("{news:?}"),
        }
    }

    fn call(&self, target: u16) -> HookOutcome {
        self.submit(target, 0);
        self.next().1
    }
}

fn call(target: u16, tag: u32) -> HookCall {
    let id = CallId {
        shard: 3,
        session: 7,
        tag,
    };
    HookCall {
        id,
        target: Target(target),
        body: b"{\"client\":\"c\"}".to_vec(),
        headers: Vec::new(),
        deadline_ms: 60_000,
    }
}

fn settings(urls: &[String]) -> HooksSettings {
    let target = |url: &String| TargetSettings {
        name: "hooks.test".to_owned(),
        url: url.clone(),
        timeout_ms: 20_000,
        http_headers: vec!["Cookie".to_owned()],
        static_headers: vec![("X-Static".to_owned(), "s".to_owned())],
    };
    HooksSettings {
        targets: urls.iter().map(target).collect(),
        ..HooksSettings::default()
    }
}

fn hooks(backend: &Backend) -> Hooks {
    Hooks::start(&settings(&[backend.url("/hook")]))
}

fn ok(body: &str) -> HookOutcome {
    HookOutcome::Response {
        status: 200,
        body: body.to_owned().into(),
    }
}

#[test]
fn a_call_is_a_post_with_the_configured_headers() {
    let backend = Backend::start(|_, to| answer(to, 200, "{}"));
    let hooks = hooks(&backend);
    let mut call = call(0, 5);
    for (name, value) in [
        ("cookie", "a=b"),
        ("X-Other", "not configured"),
        ("Cookie", "bad\r\nHost: evil"),
        ("x-static", "not the client's"),
    ] {
        call.headers.push((name.to_owned(), value.to_owned()));
    }
    hooks.handle.submit(call).unwrap();
    assert_eq!(hooks.next(), (5, ok("{}")));
    let request = &backend.requests()[0];
    assert_eq!(request.line, "POST /hook HTTP/1.1");
    assert_eq!(request.body, b"{\"client\":\"c\"}");
    let host = format!("127.0.0.1:{}", backend.port);
    for (name, value) in [
        ("host", Some(host.as_str())),
        ("content-type", Some("application/json")),
        ("cookie", Some("a=b")),
        ("x-static", Some("s")),
        ("x-other", None),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
    let cookies = request.headers.iter().filter(|(name, _)| name == "cookie");
    assert_eq!(cookies.count(), 1);
}

#[test]
fn the_most_recently_used_connection_is_used_again() {
    let backend = Backend::start(|_, to| answer(to, 200, "{}"));
    let hooks = hooks(&backend);
    for _ in 0..50 {
        assert_eq!(hooks.call(0), ok("{}"));
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn slow_answers_are_waited_for_and_chunks_put_together() {
    let pieces = [
        "HTTP/1.1 200 OK\r\nTransfer-",
        "Encoding: chunked\r\n",
        "\r\n",
        "3\r\n{\"a",
        "\r\n4\r\n\":1}\r\n0\r\n\r\n",
    ];
    let backend = Backend::start(move |_, to| {
        pieces.iter().all(|piece| {
            thread::sleep(Duration::from_millis(20));
            to.write_all(piece.as_bytes()).is_ok()
        })
    });
    let hooks = hooks(&backend);
    assert_eq!(hooks.call(0), ok("{\"a\":1}"));
    assert_eq!(hooks.call(0), ok("{\"a\":1}"));
    assert_eq!(backend.connections(), 1);
}

#[test]
fn what_never_answers_times_out_and_its_connection_is_not_used_again() {
    let backend = Backend::start(|request, to| match request.number {
        0 => true,
        1 => to
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{")
            .is_ok(),
        _ => answer(to, 200, "{}"),
    });
    let mut settings = settings(&[backend.url("/")]);
    settings.targets[0].timeout_ms = 200;
    let hooks = Hooks::start(&settings);
    assert_eq!(hooks.call(0), HookOutcome::TimedOut, "no head");
    assert_eq!(hooks.call(0), HookOutcome::TimedOut, "half a body");
    assert_eq!(hooks.call(0), ok("{}"));
    assert_eq!(backend.connections(), 3);
    assert_eq!(hooks.handle.metrics().targets[0].calls("timed_out"), 2);
}

#[test]
fn a_caller_may_be_in_more_of_a_hurry_than_the_target() {
    let backend = Backend::start(|_, _| true);
    let hooks = hooks(&backend);
    let hurried = HookCall {
        deadline_ms: 50,
        ..call(0, 1)
    };
    hooks.handle.submit(hurried).unwrap();
    assert_eq!(hooks.next(), (1, HookOutcome::TimedOut));
}

/// Every connection serves one request and is closed when the next one has come.
#[test]
fn a_kept_connection_closed_just_as_it_is_used_again_costs_one_more_try() {
    let served = Arc::new(Mutex::new(Vec::new()));
    let on_connection = Arc::clone(&served);
    let backend = Backend::start(move |request, to| {
        let mut served = on_connection.lock().unwrap();
        let is_first = !served.contains(&request.connection);
        served.push(request.connection);
        is_first && answer(to, 200, "{}")
    });
    let hooks = hooks(&backend);
    for _ in 0..3 {
        assert_eq!(hooks.call(0), ok("{}"));
    }
    let requests = backend.requests();
    let keys: Vec<_> = requests
        .iter()
        .map(|r| r.header("idempotency-key").unwrap())
        .collect();
    assert_eq!(requests.len(), 5);
    assert_eq!(
        (keys[1], keys[3]),
        (keys[2], keys[4]),
        "both tries are one call"
    );
    assert!(keys[0] != keys[1] && keys[1] != keys[3]);
    assert_eq!(hooks.handle.metrics().targets[0].retries(), 2);
}

/// A backend that starts anew closes all of its connections: the second try must not meet another of them.
#[test]
fn a_backend_that_started_anew_costs_one_more_try_however_many_connections_it_closed() {
    let is_restarted = Arc::new(AtomicBool::new(false));
    let (restarted, together) = (Arc::clone(&is_restarted), std::sync::Barrier::new(4));
    let backend = Backend::start(move |request, to| {
        if request.number < 4 {
            together.wait();
        }
        let is_old = request.connection < 4 && restarted.load(SeqCst);
        !is_old && answer(to, 200, "{}")
    });
    let hooks = hooks(&backend);
    (0..4).for_each(|tag| hooks.submit(0, tag));
    (0..4).for_each(|_| assert_eq!(hooks.next().1, ok("{}")));
    is_restarted.store(true, SeqCst);
    assert_eq!(hooks.call(0), ok("{}"));
    assert_eq!(hooks.handle.metrics().targets[0].retries(), 1);
    assert_eq!(backend.connections(), 5);
}

#[test]
fn a_new_connection_that_fails_is_not_tried_again() {
    let backend = Backend::start(|_, _| false);
    let hooks = hooks(&backend);
    assert_eq!(hooks.call(0), HookOutcome::Unavailable(Unavailable::Broken));
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn after_a_byte_of_an_answer_nothing_is_tried_again() {
    let backend = Backend::start(|request, to| match request.number {
        0 => answer(to, 200, "{}"),
        _ => to.write_all(b"H").is_err(),
    });
    let hooks = hooks(&backend);
    assert_eq!(hooks.call(0), ok("{}"));
    assert_eq!(hooks.call(0), HookOutcome::Unavailable(Unavailable::Broken));
    assert_eq!(backend.requests().len(), 2);
}

#[test]
fn an_answer_over_the_limit_is_refused_whatever_its_framing() {
    let backend = Backend::start(|request, to| {
        let body = "x".repeat(2000);
        match request.number {
            0 => answer(to, 200, &body),
            _ => {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                to.write_all(format!("{head}7d0\r\n{body}\r\n0\r\n\r\n").as_bytes())
                    .is_ok()
            }
        }
    });
    let mut settings = settings(&[backend.url("/")]);
    settings.max_response_bytes = 1999;
    let hooks = Hooks::start(&settings);
    let too_large = HookOutcome::Unavailable(Unavailable::TooLarge);
    assert_eq!(hooks.call(0), too_large);
    assert_eq!(hooks.call(0), too_large);
}

#[test]
fn what_is_not_http_is_broken() {
    let heads = [
        "SSH-2.0-x\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    ];
    let backend =
        Backend::start(move |request, to| to.write_all(heads[request.number].as_bytes()).is_err());
    let hooks = hooks(&backend);
    for head in heads {
        assert_eq!(
            hooks.call(0),
            HookOutcome::Unavailable(Unavailable::Broken),
            "{head}"
        );
    }
}

#[test]
fn a_redirect_is_an_answer_like_any_other() {
    let backend = Backend::start(|_, to| {
        to.write_all(b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n")
            .is_ok()
    });
    let hooks = hooks(&backend);
    let body = Default::default();
    assert_eq!(hooks.call(0), HookOutcome::Response { status: 302, body });
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn ten_thousand_calls_share_eight_connections() {
    const CALLS: u32 = 10_000;
    let busy = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let counted = Arc::clone(&busy);
    let backend = Backend::start(move |_, to| {
        let now = counted.0.fetch_add(1, SeqCst) + 1;
        counted.1.fetch_max(now, SeqCst);
        let is_answered = answer(to, 200, "{}");
        counted.0.fetch_sub(1, SeqCst);
        is_answered
    });
    let mut settings = settings(&[backend.url("/")]);
    settings.pool.max_connections = 8;
    settings.pool.max_waiters = CALLS as usize;
    settings.queue_calls = CALLS as usize;
    settings.targets[0].timeout_ms = 60_000;
    let hooks = Hooks::start(&settings);
    (0..CALLS).for_each(|tag| hooks.submit(0, tag));
    let mut tags: Vec<u32> = (0..CALLS)
        .map(|_| {
            let (tag, outcome) = hooks.next();
            assert_eq!(outcome, ok("{}"));
            tag
        })
        .collect();
    tags.sort_unstable();
    assert!(tags.into_iter().eq(0..CALLS), "each call has one outcome");
    assert!(backend.connections() <= 8, "{}", backend.connections());
    assert!(busy.1.load(SeqCst) <= 8);
}

#[test]
fn calls_beyond_the_waiters_are_refused_and_waiters_time_out() {
    let backend = Backend::start(|_, _| true);
    let mut settings = settings(&[backend.url("/")]);
    settings.pool.max_connections = 1;
    settings.pool.max_waiters = 2;
    settings.targets[0].timeout_ms = 500;
    let hooks = Hooks::start(&settings);
    (0..5).for_each(|tag| hooks.submit(0, tag));
    let outcomes: Vec<HookOutcome> = (0..5).map(|_| hooks.next().1).collect();
    let busy = HookOutcome::Unavailable(Unavailable::Busy);
    assert_eq!(
        outcomes.iter().filter(|outcome| **outcome == busy).count(),
        2
    );
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| **outcome == HookOutcome::TimedOut)
            .count(),
        3
    );
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn a_full_queue_refuses_at_once_and_is_counted() {
    let backend = Backend::start(|_, to| answer(to, 200, "{}"));
    let mut settings = settings(&[backend.url("/")]);
    settings.queue_calls = 1;
    let hooks = Hooks::start(&settings);
    let outcomes: Vec<_> = (0..2000)
        .map(|tag| hooks.handle.submit(call(0, tag)))
        .collect();
    let refused = outcomes
        .iter()
        .filter(|outcome| **outcome == Err(Busy))
        .count();
    assert!(refused > 0);
    assert_eq!(hooks.handle.metrics().queue_refusals(), refused as u64);
    (refused..2000).for_each(|_| drop(hooks.next()));
}

#[test]
fn a_failing_backend_is_left_alone_and_found_well_again() {
    let is_well = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&is_well);
    let backend = Backend::start(move |_, to| match well.load(SeqCst) {
        true => answer(to, 200, "{}"),
        false => answer(to, 500, "oops"),
    });
    let mut settings = settings(&[backend.url("/")]);
    settings.breaker.max_consecutive_failures = 3;
    settings.breaker.pause_ms = 50;
    settings.breaker.max_pause_ms = 50;
    let hooks = Hooks::start(&settings);
    for _ in 0..3 {
        assert!(matches!(
            hooks.call(0),
            HookOutcome::Response { status: 500, .. }
        ));
    }
    assert_eq!(hooks.call(0), HookOutcome::Open);
    assert_eq!(backend.requests().len(), 3, "it was not asked");
    is_well.store(true, SeqCst);
    let began = Instant::now();
    while hooks.call(0) != ok("{}") {
        assert!(began.elapsed() < PATIENCE, "it never came back");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(hooks.call(0), ok("{}"));
}

#[test]
fn errors_of_the_callers_making_do_not_open_the_breaker() {
    let backend = Backend::start(|_, to| answer(to, 404, ""));
    let hooks = hooks(&backend);
    for _ in 0..40 {
        assert!(matches!(
            hooks.call(0),
            HookOutcome::Response { status: 404, .. }
        ));
    }
}

#[test]
fn nobody_there_and_no_such_name_are_told_apart() {
    // Bound and closed again: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let urls = [
        format!("http://127.0.0.1:{port}/"),
        "http://nobody.invalid/".to_owned(),
    ];
    let hooks = Hooks::start(&settings(&urls));
    assert_eq!(
        hooks.call(0),
        HookOutcome::Unavailable(Unavailable::Connect)
    );
    assert_eq!(
        hooks.call(1),
        HookOutcome::Unavailable(Unavailable::Address)
    );
    assert_eq!(
        hooks.call(9),
        HookOutcome::Unavailable(Unavailable::NoTarget)
    );
}

#[test]
fn a_name_is_looked_up() {
    let backend = Backend::start(|_, to| answer(to, 200, "{}"));
    let hooks = Hooks::start(&settings(&[format!("http://localhost:{}/", backend.port)]));
    assert_eq!(hooks.call(0), ok("{}"));
}

#[test]
fn a_backend_that_hangs_does_not_hold_up_another() {
    let hanging = Backend::start(|_, _| true);
    let quick = Backend::start(|_, to| answer(to, 200, "{}"));
    let mut settings = settings(&[hanging.url("/"), quick.url("/")]);
    settings.pool.max_connections = 4;
    let hooks = Hooks::start(&settings);
    (0..500).for_each(|tag| hooks.submit(0, tag));
    for tag in 1000..1100 {
        hooks.submit(1, tag);
        // None of the others can have ended before its time-out.
        assert_eq!(hooks.next(), (tag, ok("{}")));
    }
}

#[test]
fn a_connection_idle_for_too_long_is_closed_by_this_side() {
    let backend = Backend::start(|_, to| answer(to, 200, "{}"));
    let mut settings = settings(&[backend.url("/")]);
    settings.pool.idle_timeout_ms = 1;
    let hooks = Hooks::start(&settings);
    for _ in 0..3 {
        assert_eq!(hooks.call(0), ok("{}"));
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(backend.connections(), 3);
}

#[test]
fn an_answer_that_ends_the_connection_ends_it() {
    let backend = Backend::start(|_, to| {
        to.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}")
            .is_err()
    });
    let hooks = hooks(&backend);
    for _ in 0..3 {
        assert_eq!(hooks.call(0), ok("{}"));
    }
    assert_eq!(hooks.handle.metrics().targets[0].retries(), 0);
}

fn with_keys(backend: &Backend) -> Hooks {
    let source = KeySourceSettings {
        name: "token.jwks_url".to_owned(),
        url: backend.url("/jwks"),
        refresh_interval_s: 600,
    };
    let settings = HooksSettings {
        key_sources: vec![source],
        ..HooksSettings::default()
    };
    Hooks::start(&settings)
}

#[test]
fn keys_are_fetched_at_the_start_for_every_shard() {
    let backend = Backend::start(|_, to| answer(to, 200, "{\"keys\":[]}"));
    let hooks = with_keys(&backend);
    let document = Keys::Document("{\"keys\":[]}".into());
    assert_eq!(hooks.next_keys(), (None, document));
    let request = &backend.requests()[0];
    assert_eq!(request.line, "GET /jwks HTTP/1.1");
}

#[test]
fn a_flood_of_unknown_keys_does_not_reach_the_provider() {
    let backend = Backend::start(|_, to| answer(to, 200, "{}"));
    let hooks = with_keys(&backend);
    assert!(matches!(hooks.next_keys(), (None, Keys::Document(_))));
    for shard in 0..100 {
        hooks.handle.refresh_keys(shard, KeySource(0)).unwrap();
        assert_eq!(hooks.next_keys(), (Some(shard), Keys::Unchanged));
    }
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn wishes_for_keys_during_a_fetch_share_it() {
    let (gate, open) = channel::<()>();
    let open = Mutex::new(open);
    let backend = Backend::start(move |_, to| {
        open.lock().unwrap().recv().unwrap();
        answer(to, 503, "")
    });
    let hooks = with_keys(&backend);
    while backend.requests().is_empty() {
        thread::yield_now();
    }
    for shard in [1, 2, 1] {
        hooks.handle.refresh_keys(shard, KeySource(0)).unwrap();
    }
    // The queue keeps its order: once this call has its outcome, the wishes were seen.
    hooks.submit(9, 0);
    hooks.next();
    gate.send(()).unwrap();
    assert_eq!(hooks.next_keys(), (Some(1), Keys::Failed));
    assert_eq!(hooks.next_keys(), (Some(2), Keys::Failed));
    assert_eq!(backend.requests().len(), 1);
}

/// Whatever goes wrong, one fetch and a failure.
#[test]
fn keys_are_not_taken_from_redirects_errors_or_long_documents() {
    let redirect =
        "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n";
    let long = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n{}",
        " ".repeat(65_537)
    );
    for text in [
        redirect.to_owned(),
        long,
        "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ] {
        let (gate, open) = channel::<()>();
        let open = Mutex::new(open);
        let backend = Backend::start(move |_, to| {
            open.lock().unwrap().recv().unwrap();
            to.write_all(text.as_bytes()).is_ok()
        });
        let hooks = with_keys(&backend);
        hooks.handle.refresh_keys(0, KeySource(0)).unwrap();
        gate.send(()).unwrap();
        assert_eq!(hooks.next_keys(), (Some(0), Keys::Failed));
        assert_eq!(backend.requests().len(), 1);
    }
}
