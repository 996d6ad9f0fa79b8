//! Streams: what rows there are, the routers that send them, the consumers that read them, and the ledger that judges every
//! byte between them.

pub mod consumer;
pub mod ledger;
mod response;
mod rows;
pub mod sender;
