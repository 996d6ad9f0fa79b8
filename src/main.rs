//! `berthd`: reads the configuration, listens, runs the loop (SPEC section 7).
#![deny(unsafe_code)]

use berth::fault::{Fault, plant_from_env, planted};
use berth::limits::Settings;
use berth::memory::{jemalloc, make_accounts_for};
use berth::ops::args::{self, Command};
use berth::ops::{census_command, config, descriptors, log as berth_log, systemd};
use berth::reactor::event_loop::{EventLoop, Exit, print_ready};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tikv_jemallocator::Jemalloc;

#[cfg(not(feature = "uncharged"))]
#[global_allocator]
static ALLOCATOR: berth::memory::allocator::Charging<Jemalloc> = berth::memory::allocator::Charging(Jemalloc);

#[cfg(feature = "uncharged")]
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Where jemalloc looks for its options before its first block.
#[allow(unsafe_code)] // the name must be this one, and nothing else in the process has it
#[unsafe(export_name = "_rjem_malloc_conf")]
static OPTIONS: Option<&'static u8> = Some(&jemalloc::OPTIONS[0]);

/// Wrong command line or configuration.
const USAGE: u8 = 2;
/// How long the last log lines may take.
const LAST_LOG: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let (command, path) = match args::parse(std::env::args_os().skip(1)) {
        Ok(parsed) => parsed,
        Err(error) => return complain(USAGE, &error),
    };
    match command {
        Command::Help => print!("{}", args::HELP),
        Command::Version => println!("berthd {}", env!("CARGO_PKG_VERSION")),
        Command::Check => return check(path.as_deref()),
        Command::Census { json } => return census(path.as_deref(), json),
        Command::Run => return run(path.as_deref()),
    }
    ExitCode::SUCCESS
}

fn check(path: Option<&Path>) -> ExitCode {
    match config::load(path) {
        Ok(_) => {
            eprintln!("berthd: the configuration is fine");
            ExitCode::SUCCESS
        }
        Err(error) => complain(USAGE, &error),
    }
}

fn census(path: Option<&Path>, json: bool) -> ExitCode {
    let settings = match config::load(path) {
        Ok(settings) => settings,
        Err(error) => return complain(USAGE, &error),
    };
    match census_command::run(&settings.http.listen.bind, json) {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => complain(1, &error),
            _ => ExitCode::SUCCESS, // a reader that has seen enough (`| head`) is no failure
        },
        Err(error) => complain(1, &error),
    }
}

fn run(path: Option<&Path>) -> ExitCode {
    let settings = match config::load(path) {
        Ok(settings) => settings,
        Err(error) => return complain(USAGE, &error),
    };
    if let Err(error) = systemd::refuse_socket_activation() {
        return complain(USAGE, &error);
    }
    if let Err(error) = berth_log::install(&settings.log) {
        return complain(1, &error);
    }
    berth_log::log_panics();
    if let Err(error) = plant_from_env() {
        return complain(USAGE, &error);
    }
    if planted(Fault::KeepMemory) {
        jemalloc::never_give_back();
    }
    let result = serve(settings);
    berth_log::flush_blocking(LAST_LOG);
    match result {
        Ok(Exit::Drained) => ExitCode::SUCCESS,
        Ok(Exit::Forced) => ExitCode::FAILURE,
        Err(error) => complain(1, &error),
    }
}

fn serve(mut settings: Settings) -> Result<Exit, String> {
    let limit = descriptors::raise_limit();
    descriptors::fit(&mut settings, limit);
    jemalloc::prepare(settings.max_buffered_bytes);
    make_accounts_for(limit.min(settings.most_connections()));
    let mut event_loop = EventLoop::new(settings, limit)?;
    print_ready(&event_loop.ready_line());
    Ok(event_loop.run())
}

fn complain(code: u8, what: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("berthd: {what}");
    ExitCode::from(code)
}
