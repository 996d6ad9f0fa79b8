//! What surrounds the loop: configuration, log, command line, signals, systemd.

pub mod args;
pub mod census_command;
pub mod config;
pub mod descriptors;
pub mod log;
pub mod metrics;
pub mod signals;
pub mod systemd;
