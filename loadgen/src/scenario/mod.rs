//! Scenarios, each against a daemon of its own: the five failures that Berth exists to make impossible, big results and whole
//! fleets, and the soak, which is all of the failures at once for hours.

pub mod akka;
pub mod big_command;
pub mod caller;
pub mod client;
pub mod consumer;
pub mod erlang;
pub mod event_stream;
pub mod eventmachine;
pub mod events;
pub mod failures;
pub mod fleet_caller;
pub mod fleet_commands;
pub mod fleets;
pub mod job;
pub mod judge;
pub mod pace;
pub mod perform;
pub mod planted;
pub mod publisher;
pub mod replies;
pub mod router;
pub mod scala_remote_actors;
pub mod script;
pub mod soak;
pub mod stage;
pub mod streams;
pub mod vapor;
pub mod watcher;
pub mod way;
pub mod world;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::options::Options;
use crate::run::{raise_descriptor_limit, stop_flag};

/// What all commands that play scenarios have in common.
pub struct Show {
    pub program: PathBuf,
    pub daemon_log: Option<PathBuf>,
    pub seed: u64,
    /// Where the HTML report goes.
    pub report: PathBuf,
    pub stop: Arc<AtomicBool>,
    /// As it was typed, for the report.
    pub command: String,
}

impl Show {
    /// # Errors
    /// No `--daemon`, too low a descriptor limit, or no handler for SIGINT.
    pub fn new(options: &Options, report: &str) -> Result<Self, String> {
        raise_descriptor_limit(2000)?;
        Ok(Self {
            program: options.daemon.clone().ok_or("--daemon is missing")?,
            daemon_log: options.daemon_log.clone(),
            seed: options.seed,
            report: options.report.clone().unwrap_or_else(|| report.into()),
            stop: stop_flag().map_err(|e| e.to_string())?,
            command: command_line(),
        })
    }
}

/// The command line of this process, with the program's bare name: paths of one machine mean nothing on another.
pub fn command_line() -> String {
    let bare = |word: std::ffi::OsString| {
        let word = word.to_string_lossy().into_owned();
        let name = Path::new(&word).file_name().map(|name| name.to_string_lossy().into_owned());
        if word.starts_with('/') { name.unwrap_or(word) } else { word }
    };
    std::env::args_os().map(bare).collect::<Vec<_>>().join(" ")
}
