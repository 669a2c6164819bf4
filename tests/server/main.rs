//! The server seen from outside: every test starts the real binary on a free port of its own and talks to it over TCP.
//!
//! The client side is written here from RFC 6455 and RFC 9112 with plain sockets and none of the server's own code, so that
//! one misreading cannot hide on both sides. `LONGWIRE_BIN` names another binary to test, for example the release build,
//! and `LONGWIRE_LOADGEN_BIN` the load generator, which is otherwise the one beside it.
//!
//! Nothing is asserted about time: a test waits for what it expects, up to [`harness::PATIENCE`], and fails when that is over.

mod admission;
mod agents;
mod api;
mod carriers;
mod churn;
mod config_errors;
mod curl;
mod fuzz;
mod harness;
mod heartbeat;
mod hooks;
mod http;
mod http_vectors;
mod limits;
mod loadgen;
mod loadgen_centrifuge;
mod origins;
mod proxies;
mod publish;
mod restart;
mod rfc6455;
mod rfc7692;
mod seed_defects;
mod shutdown;
mod slow_reader;
mod startup;
mod takeover;
mod transports;
mod tungstenite;
mod websocket;
