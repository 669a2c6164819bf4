//! What a URL can be, one file each.
//!
//! To add an endpoint, write its two functions and add a row to [`ROUTES`]. `admit` sees the head only
//! and refuses what has no business sending a body; `answer` sees the whole request.

mod access;
mod api;
mod channels;
mod chat;
mod console;
mod echo;
mod operations;
mod publishing;

use crate::proto::http::{Method, Request};
use crate::shard::{Answer, Core, Exchange, Handler, Reply};

/// The endpoints, for a shard to call.
pub const HANDLER: Handler = Handler { admit, answer };

struct Route {
    path: Path,
    methods: &'static [Method],
    admit: fn(&mut Core, &Exchange<'_>) -> Result<(), Reply>,
    answer: fn(&mut Core, &Exchange<'_>) -> Answer,
}

enum Path {
    /// This path.
    Is(&'static str),
    /// This prefix and one segment, not empty.
    Segment(&'static str),
}

const READ: &[Method] = &[Method::Get, Method::Head];
const WRITE: &[Method] = &[Method::Post];
const READ_WRITE: &[Method] = &[Method::Get, Method::Head, Method::Post];

const ROUTES: &[Route] = &[
    Route {
        path: Path::Is("/"),
        methods: READ,
        admit: anyone,
        answer: console::page,
    },
    Route {
        path: Path::Segment("/channels/"),
        methods: READ_WRITE,
        admit: channels::admit,
        answer: channels::answer,
    },
    Route {
        path: Path::Is("/chat"),
        methods: READ,
        admit: chat::admit,
        answer: chat::answer,
    },
    Route {
        path: Path::Is("/echo"),
        methods: READ,
        admit: echo::admit,
        answer: echo::answer,
    },
    Route {
        path: Path::Is("/api/publish"),
        methods: WRITE,
        admit: api::admit,
        answer: api::publish,
    },
    Route {
        path: Path::Is("/metrics"),
        methods: READ,
        admit: anyone,
        answer: operations::metrics,
    },
    Route {
        path: Path::Is("/health"),
        methods: READ,
        admit: anyone,
        answer: operations::health,
    },
    Route {
        path: Path::Is("/ready"),
        methods: READ,
        admit: anyone,
        answer: operations::ready,
    },
];

fn admit(core: &mut Core, exchange: &Exchange<'_>) -> Result<(), Reply> {
    let route = find(exchange.request)?;
    (route.admit)(core, exchange)
}

fn answer(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    match find(exchange.request) {
        Ok(route) => (route.answer)(core, exchange),
        Err(reply) => Answer::Reply(reply),
    }
}

fn find(request: &Request<'_>) -> Result<&'static Route, Reply> {
    let route = ROUTES.iter().find(|route| route.path.matches(request.path));
    let Some(route) = route else {
        return Err(Reply::text(404, "no such path").closing());
    };
    if route.methods.contains(&request.method) {
        return Ok(route);
    }
    let allowed: Vec<&str> = route.methods.iter().map(|method| name(*method)).collect();
    let reply = Reply::text(405, "method not allowed here").with("Allow", allowed.join(", "));
    Err(reply.closing())
}

fn anyone(_: &mut Core, _: &Exchange<'_>) -> Result<(), Reply> {
    Ok(())
}

fn name(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Options => "OPTIONS",
        Method::Other => "",
    }
}

impl Path {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Is(whole) => path == *whole,
            Self::Segment(prefix) => self.segment(path, prefix).is_some(),
        }
    }

    fn segment<'a>(&self, path: &'a str, prefix: &str) -> Option<&'a str> {
        path.strip_prefix(prefix)
            .filter(|segment| !segment.is_empty() && !segment.contains('/'))
    }
}
