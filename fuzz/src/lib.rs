//! What must hold for any bytes: one module for each codec, each with a `check` that panics where it does not.
//!
//! The fuzz targets run these on bytes that libFuzzer invents; `tests/corpus.rs` includes this very file and runs them on
//! the files under `fuzz/corpus`, without nightly. The bytes of an input are the wire's own, with no control bytes of
//! ours in front, so that a corpus file can be read, written by hand, and sent to a daemon with netcat.

mod answers;
mod pieces;

pub mod config;
pub mod http_body;
pub mod http_calls;
pub mod http_head;
pub mod http_session;
pub mod http_target;
pub mod jsonrpc_body;
pub mod jsonrpc_request;
pub mod router_frames;
pub mod websocket;
