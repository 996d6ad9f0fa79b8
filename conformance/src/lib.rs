//! Black-box tests of the daemon: clients and a harness here, the tests in `tests/`, a file for each part of the contract.
//! They are written from the contract and the RFCs alone; nothing here uses the daemon's code.
//!
//! `cargo build -p berthd && cargo test -p conformance` runs them against the daemon beside them; `BERTHD=/path/to/berthd`
//! picks another one. The silent deaths in `tests/tcp_silent_death.rs` need root, for network namespaces, and iproute2.

#![forbid(unsafe_code)]

pub mod calls;
pub mod daemon;
pub mod fleet;
pub mod frame;
pub mod http;
pub mod kernel;
pub mod network;
pub mod random;
pub mod router;
pub mod sse;
pub mod stream;
pub mod websocket;
