//! Domain state: sans-IO, time as an argument. Each table here is one class of the census.

pub mod commands;
pub mod fleet;
pub mod frames;
pub mod hub;
pub mod list;
pub mod message;
pub mod outqueue;
pub mod pool;
pub mod shadows;
pub mod streams;
pub mod wheel;
