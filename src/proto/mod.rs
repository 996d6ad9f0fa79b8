//! Codecs, sans-IO: bytes in, meaning out, and back. No clock, no sockets; each is driven by any cut of its input.

pub mod http;
pub mod jsonrpc;
pub mod router;
pub mod sse;
pub mod websocket;
