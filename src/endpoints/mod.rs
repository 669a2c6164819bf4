//! What a URL can be, one file each.
//!
//! To add an endpoint, write its two functions and add a row to [`ROUTES`]. `admit` sees the head only
//! and refuses what has no business sending a body; `answer` sees the whole request.

mod access;
mod api;
mod carriers;
mod centrifuge;
mod channels;
mod chat;
mod console;
mod echo;
mod listening;
mod operations;
mod publishing;
mod several;
mod sockjs;
#[cfg(feature = "test-hooks")]
mod test_hooks;
mod uni;

use crate::proto::handshake::{UpgradeCheck, check_upgrade};
use crate::proto::http::{BodyLength, Method, Request};
use crate::shard::{Answer, Core, Exchange, Handler, Headers, Reply};

/// The endpoints, for a shard to call.
pub const HANDLER: Handler = Handler { admit, answer };

struct Route {
    path: Path,
    methods: &'static [Method],
    pages: Pages,
    admit: fn(&mut Core, &Exchange<'_>) -> Result<(), Reply>,
    answer: fn(&mut Core, &Exchange<'_>) -> Answer,
}

/// Which web pages may send requests. Other programs than browsers send no Origin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pages {
    /// Any, and none of another origin can read the answer.
    Any,
    /// Those of allowed origins.
    Allowed,
    /// Those of allowed origins, and they can read the answer (CORS).
    AllowedMayRead,
    /// The same, with credentials.
    AllowedWithCredentials,
}

enum Path {
    /// This path.
    Is(&'static str),
    /// This prefix and one segment, not empty.
    Segment(&'static str),
    /// This path and everything below it.
    Tree(&'static str),
}

const READ: &[Method] = &[Method::Get, Method::Head];
const WRITE: &[Method] = &[Method::Post];
const READ_WRITE: &[Method] = &[Method::Get, Method::Head, Method::Post];

const ROUTES: &[Route] = &[
    Route {
        path: Path::Is("/"),
        methods: READ,
        pages: Pages::Any,
        admit: anyone,
        answer: console::page,
    },
    Route {
        path: Path::Is("/longwire.js"),
        methods: READ,
        pages: Pages::Any,
        admit: anyone,
        answer: console::client,
    },
    Route {
        path: Path::Is("/longwire.mjs"),
        methods: READ,
        pages: Pages::Any,
        admit: anyone,
        answer: console::client_module,
    },
    Route {
        path: Path::Segment("/channels/"),
        methods: READ_WRITE,
        pages: Pages::AllowedMayRead,
        admit: channels::admit,
        answer: channels::answer,
    },
    Route {
        path: Path::Is("/channels"),
        methods: READ,
        pages: Pages::AllowedMayRead,
        admit: several::admit,
        answer: several::answer,
    },
    Route {
        path: Path::Is("/connection/websocket"),
        methods: READ,
        pages: Pages::Allowed,
        admit: anyone,
        answer: centrifuge::websocket,
    },
    Route {
        path: Path::Is("/connection/http_stream"),
        methods: WRITE,
        pages: Pages::AllowedWithCredentials,
        admit: carriers::admit_http_stream,
        answer: carriers::http_stream,
    },
    Route {
        path: Path::Is("/connection/sse"),
        methods: READ_WRITE,
        pages: Pages::AllowedWithCredentials,
        admit: carriers::admit_sse,
        answer: carriers::sse,
    },
    Route {
        path: Path::Is("/emulation"),
        methods: WRITE,
        pages: Pages::AllowedWithCredentials,
        admit: carriers::admit_emulation,
        answer: carriers::emulation,
    },
    Route {
        path: Path::Is("/connection/uni_websocket"),
        methods: READ,
        pages: Pages::Allowed,
        admit: uni::admit_websocket,
        answer: uni::websocket,
    },
    Route {
        path: Path::Is("/connection/uni_sse"),
        methods: READ_WRITE,
        pages: Pages::AllowedWithCredentials,
        admit: uni::admit_sse,
        answer: uni::sse,
    },
    Route {
        path: Path::Is("/connection/uni_http_stream"),
        methods: WRITE,
        pages: Pages::AllowedWithCredentials,
        admit: uni::admit_http_stream,
        answer: uni::http_stream,
    },
    Route {
        path: Path::Tree("/connection/sockjs"),
        methods: READ_WRITE,
        pages: Pages::AllowedWithCredentials,
        admit: sockjs::admit,
        answer: sockjs::answer,
    },
    Route {
        path: Path::Is("/chat"),
        methods: READ,
        pages: Pages::AllowedMayRead,
        admit: anyone,
        answer: chat::answer,
    },
    Route {
        path: Path::Is("/echo"),
        methods: READ,
        pages: Pages::Allowed,
        admit: echo::admit,
        answer: echo::answer,
    },
    Route {
        path: Path::Is("/api"),
        methods: WRITE,
        pages: Pages::AllowedMayRead,
        admit: api::admit_lines,
        answer: api::answer_lines,
    },
    Route {
        path: Path::Segment("/api/"),
        methods: WRITE,
        pages: Pages::AllowedMayRead,
        admit: api::admit,
        answer: api::answer,
    },
    Route {
        path: Path::Is("/metrics"),
        methods: READ,
        pages: Pages::Any,
        admit: anyone,
        answer: operations::metrics,
    },
    Route {
        path: Path::Is("/health"),
        methods: READ,
        pages: Pages::Any,
        admit: anyone,
        answer: operations::health,
    },
    Route {
        path: Path::Is("/ready"),
        methods: READ,
        pages: Pages::Any,
        admit: anyone,
        answer: operations::ready,
    },
    #[cfg(feature = "test-hooks")]
    test_hooks::HOLD,
];

/// Decides from the head alone. The headers are those of every answer to the request, whatever it is.
fn admit(core: &mut Core, exchange: &Exchange<'_>) -> Result<Headers, Reply> {
    let request = exchange.request;
    let route = find(request.path)?;
    let headers = match route.pages {
        Pages::Any => Headers::new(),
        Pages::Allowed => {
            access::origin(core, request)?;
            Headers::new()
        }
        Pages::AllowedMayRead => access::cors_headers(access::origin(core, request)?),
        Pages::AllowedWithCredentials => {
            access::credentialed_cors_headers(access::origin(core, request)?)
        }
    };
    if route.is_preflight(request) {
        return Ok(headers);
    }
    let admitted = route
        .allows(request.method)
        .and_then(|()| check_body(request))
        .and_then(|()| (route.admit)(core, exchange));
    match admitted {
        Ok(()) => Ok(headers),
        Err(mut reply) => {
            reply.headers.extend(headers);
            Err(reply)
        }
    }
}

/// A POST says how long its body is. One that does not may mean to end it with the connection, as HTTP/1.0
/// once allowed, and an empty body would be published in its place. A WebSocket handshake has no body: one
/// that declares it is refused rather than waited for, since what follows the head may be meant as frames.
fn check_body(request: &Request<'_>) -> Result<(), Reply> {
    match (request.method, request.body) {
        (Method::Post, BodyLength::None) => {
            let line = "Content-Length or chunked Transfer-Encoding missing";
            Err(Reply::text(411, line).closing())
        }
        (_, BodyLength::None | BodyLength::Length(0)) => Ok(()),
        _ => match check_upgrade(request) {
            UpgradeCheck::Refuse(error) => Err(error.into()),
            UpgradeCheck::Accept { .. } | UpgradeCheck::NotAnUpgrade => Ok(()),
        },
    }
}

fn answer(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    match find(exchange.request.path) {
        Ok(route) if route.is_preflight(exchange.request) => Answer::Reply(route.preflight()),
        Ok(route) => (route.answer)(core, exchange),
        Err(reply) => Answer::Reply(reply),
    }
}

fn find(path: &str) -> Result<&'static Route, Reply> {
    let route = ROUTES.iter().find(|route| route.path.matches(path));
    route.ok_or_else(|| Reply::text(404, "no such path").closing())
}

impl Route {
    fn allows(&self, method: Method) -> Result<(), Reply> {
        if self.methods.contains(&method) {
            return Ok(());
        }
        let reply = Reply::text(405, "method not allowed here").with("Allow", self.method_names());
        Err(reply.closing())
    }

    /// A browser's question whether a page may send what it wants to (Fetch standard, section 3.2.2).
    fn is_preflight(&self, request: &Request<'_>) -> bool {
        let has = |name| request.headers(name).next().is_some();
        matches!(
            self.pages,
            Pages::AllowedMayRead | Pages::AllowedWithCredentials
        ) && request.method == Method::Options
            && has("origin")
            && has("access-control-request-method")
    }

    /// The origin was found to be allowed when the request was admitted.
    fn preflight(&self) -> Reply {
        carriers::no_content()
            .with("Access-Control-Allow-Methods", self.method_names())
            .with("Access-Control-Allow-Headers", access::CORS_REQUEST_HEADERS)
            .with("Access-Control-Max-Age", access::CORS_MAX_AGE_S)
    }

    fn method_names(&self) -> String {
        let names: Vec<&str> = self.methods.iter().map(|method| name(*method)).collect();
        names.join(", ")
    }
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
            Self::Tree(root) => path
                .strip_prefix(root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Segment(prefix) => self.segment(path, prefix).is_some(),
        }
    }

    fn segment<'a>(&self, path: &'a str, prefix: &str) -> Option<&'a str> {
        path.strip_prefix(prefix)
            .filter(|segment| !segment.is_empty() && !segment.contains('/'))
    }
}
