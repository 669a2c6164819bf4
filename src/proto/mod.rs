//! Bytes to values and back: WebSocket frames and messages, HTTP/1.1 heads and bodies, the upgrade
//! between them.
//!
//! Nothing here does I/O, reads a clock or waits. Every reader is fed bytes in pieces of any size
//! and gives the same values, or the same error, however they were cut; every writer appends to a
//! buffer of the caller's. What a peer sends can be refused (a [`message::Violation`] on a
//! WebSocket, an [`http::HttpError`] before it), never cause a panic, and never reserve more memory
//! than it has sent bytes for.
//!
//! | module | RFC | from → to |
//! |---|---|---|
//! | [`http`] | 9112 | bytes → request, chunked body; response, chunks → bytes |
//! | [`hooks`] | - | what the application's backend is asked, and its answers |
//! | [`handshake`] | 6455 §4 | request → 101 or refusal; and the client's side of it |
//! | [`frame`] | 6455 §5.2 | one frame's header, both ways |
//! | [`mask`] | 6455 §5.3 | a client's payload, in place |
//! | [`utf8`] | 3629 | text, as it comes in |
//! | [`close`] | 6455 §7.4 | close codes and the payload of a Close frame |
//! | [`origin`] | 6454 | the Origin header, and patterns to allow |
//! | [`proxy`] | - | the PROXY protocol's header, versions 1 and 2 |
//! | [`message`] | 6455 §5.4 | bytes → whole messages and control frames |
//! | [`centrifuge`] | - | the Centrifuge client protocol: commands; replies and pushes |
//! | [`envelope`] | - | what the plain dialect says besides the data |
//! | [`sockjs`] | - | SockJS 0.3.3: frames; messages, URLs |
//! | [`sse`] | - | server-sent events |
//! | [`cursor`] | - | where a client of the plain dialect stands |
//! | [`deflate`] | 7692 | compressed messages, both ways, and the agreement on them |

pub mod centrifuge;
pub mod close;
pub mod cursor;
pub mod deflate;
pub mod envelope;
pub mod frame;
pub mod handshake;
pub mod hooks;
pub mod http;
pub mod mask;
pub mod message;
pub mod origin;
pub mod proxy;
pub mod sockjs;
pub mod sse;
pub mod utf8;
