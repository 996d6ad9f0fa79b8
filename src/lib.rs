//! Berth: a gateway daemon that keeps the long-lived connections of a fleet of routers, in one thread and in flat memory.
//!
//! `docs/architecture.md` is the map. Imports point downwards only: ground (`id`, `clock`, `limits`, `census`, `fault`, `memory`),
//! `proto`, `core`, `session` and `api`, `net`, `reactor`; `ops` stands aside.
#![deny(unsafe_code)]

pub mod api;
pub mod census;
pub mod clock;
pub mod core;
pub mod fault;
pub mod id;
pub mod limits;
pub mod memory;
pub mod net;
pub mod ops;
pub mod proto;
pub mod reactor;
pub mod session;
