//! Load for the Berth daemon: simulated routers, HTTP callers and WebSocket watchers on one thread and one event loop; in
//! `failures` and `soak` an observer looks at the daemon from a second thread.
//!
//! loadgen believes itself, not the daemon: it is written from the contract alone, checks every body, number and order
//! that it receives, and counts connections and memory from `/proc` beside the daemon's own census.

pub mod caller;
pub mod census;
pub mod client;
pub mod command;
pub mod compare;
pub mod compare_clients;
pub mod csv;
pub mod daemon;
pub mod fleet;
pub mod fleet_call;
pub mod frame;
pub mod http;
pub mod ledger;
pub mod log_rows;
pub mod markup;
pub mod observer;
pub mod options;
pub mod order;
pub mod payload;
pub mod plot;
pub mod probe;
pub mod proc;
pub mod random;
pub mod reactor;
pub mod report;
pub mod report_html;
pub mod route;
pub mod router;
pub mod rows;
pub mod rpc;
pub mod run;
pub mod scenario;
pub mod series;
pub mod sse;
pub mod stats;
pub mod stream;
pub mod timers;
pub mod usage;
pub mod watcher;
pub mod websocket;
pub mod world;
