//! Load for the Berth daemon: simulated routers, HTTP callers and WebSocket watchers on one thread and one event loop.
//!
//! loadgen believes itself, not the daemon: it is written from the contract alone, checks every body, number and order
//! that it receives, and counts connections and memory from `/proc` beside the daemon's own census.

pub mod caller;
pub mod census;
pub mod client;
pub mod compare;
pub mod compare_clients;
pub mod daemon;
pub mod fleet;
pub mod frame;
pub mod http;
pub mod ledger;
pub mod options;
pub mod order;
pub mod payload;
pub mod proc;
pub mod random;
pub mod reactor;
pub mod report;
pub mod router;
pub mod run;
pub mod stats;
pub mod timers;
pub mod usage;
pub mod watcher;
pub mod websocket;
pub mod world;
