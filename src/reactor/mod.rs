//! The loop: sockets, clock and slab are here and nowhere else. `docs/architecture.md` shows one turn of it.
//!
//! [`engine::Engine`] is everything but the poll: it runs on any [`crate::net::transport::Transport`], so the simulator
//! drives the very same code as the daemon.

mod address_counts;
mod audit;
mod census;
mod clients;
mod closing;
mod command;
pub mod connection;
mod date;
mod drain;
#[cfg(feature = "websocket-echo")]
mod echo;
pub mod engine;
pub mod event_loop;
mod fleet;
mod flush;
mod housekeeping;
mod http;
mod long_answer;
mod memory_limit;
mod patrol;
mod publish;
mod read;
mod replay;
mod round;
mod router;
mod rpc;
mod sample;
mod send;
mod stream;
pub mod table;
mod timers;
mod watch;
mod websocket;
mod work;

pub use engine::{Engine, Readiness};
