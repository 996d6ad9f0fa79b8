//! The internal HTTP API (SPEC section 3): from a request's head to a call, and from outcomes to answers.

pub mod events;
pub mod fleet;
mod open_mode;
mod query;
pub mod refusal;
pub mod routes;
pub mod upgrade;

pub use refusal::Refusal;
