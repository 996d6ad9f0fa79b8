//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lexopt::prelude::*;

use crate::scenario::streams::Plan;

/// The addresses of the daemon's four listeners.
#[derive(Clone, Debug, PartialEq)]
pub struct Addresses {
    pub router: SocketAddr,
    pub http: SocketAddr,
    pub app: SocketAddr,
    pub page: SocketAddr,
}

impl Default for Addresses {
    fn default() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self { router: local(7000), http: local(7080), app: local(7001), page: local(7002) }
    }
}

/// What a watcher subscribes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Watch {
    /// One router each; they take turns.
    One,
    All,
}

/// Sizes in bytes, both ends included.
pub type Sizes = (usize, usize);

/// Everything that the modes can be told; each uses its part.
#[derive(Clone, Debug)]
pub struct Options {
    pub addresses: Addresses,
    pub daemon: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub daemon_log: Option<PathBuf>,
    pub pid: Option<u32>,
    pub routers: usize,
    pub callers: usize,
    pub apps: usize,
    pub pages: usize,
    pub app_watch: Watch,
    pub page_watch: Watch,
    pub prefix: String,
    pub event_rate: f64,
    pub think: Duration,
    /// Commands a second of each caller; `None` is the pause `think` between them.
    pub command_rate: Option<f64>,
    pub client_command_rate: f64,
    pub command_bytes: Sizes,
    pub reply_bytes: Sizes,
    pub event_bytes: Sizes,
    pub big_bytes: Sizes,
    pub big_share: f64,
    pub json_share: f64,
    pub oneway_share: f64,
    pub fail_share: f64,
    pub retain_share: f64,
    pub timeout: Duration,
    pub duration: Duration,
    pub ramp: f64,
    pub drain: Duration,
    pub seed: u64,
    pub json: bool,
    pub interval: Duration,
    pub baseline: Option<PathBuf>,
    pub pairs: usize,
    pub count: Option<u64>,
    pub watchers: usize,
    pub bytes: usize,
    pub hours: f64,
    pub csv: PathBuf,
    pub report: Option<PathBuf>,
    pub only: Option<String>,
    pub quick: bool,
    pub planted: bool,
    /// Of `loadgen streams`; `routers` and `json_share` stand above.
    pub plan: Plan,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addresses: Addresses::default(),
            daemon: None,
            config: None,
            daemon_log: None,
            pid: None,
            routers: 200,
            callers: 64,
            apps: 100,
            pages: 100,
            app_watch: Watch::One,
            page_watch: Watch::All,
            prefix: String::new(),
            event_rate: 1.0,
            think: Duration::from_millis(10),
            command_rate: None,
            client_command_rate: 0.1,
            command_bytes: (100, 400),
            reply_bytes: (100, 400),
            event_bytes: (100, 400),
            big_bytes: (17_000, 50_000),
            big_share: 0.01,
            json_share: 0.5,
            oneway_share: 0.1,
            fail_share: 0.01,
            retain_share: 0.05,
            timeout: Duration::from_secs(10),
            duration: Duration::from_secs(60),
            ramp: 1000.0,
            drain: Duration::from_secs(10),
            seed: SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64),
            json: false,
            interval: Duration::from_secs(5),
            baseline: None,
            pairs: 5,
            count: None,
            watchers: 500,
            bytes: 256,
            hours: 1.0,
            csv: "soak.csv".into(),
            report: None,
            only: None,
            quick: false,
            planted: false,
            plan: Plan::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Help,
    Run,
    Fleet,
    CompareRelay,
    CompareFanout,
    Soak,
    Failures,
    Fleets,
    Streams,
}

/// The longest body that fits into every way: base64 in a WebSocket message of 64 KiB.
const MAX_BODY_BYTES: usize = 1_000_000;
pub const MAX_WEBSOCKET_BODY_BYTES: usize = 48_000;

/// Parses the arguments behind the program's name.
///
/// # Errors
/// A text for the user.
pub fn parse(args: impl IntoIterator<Item = std::ffi::OsString>) -> Result<(Mode, Options), String> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut options = Options::default();
    let mut words = Vec::new();
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        match arg {
            Value(word) => words.push(word.to_string_lossy().into_owned()),
            Short('h') | Long("help") => return Ok((Mode::Help, options)),
            Long(name) => {
                let name = name.to_string();
                option(&name, &mut parser, &mut options).map_err(|e| format!("--{name}: {e}"))?;
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    let mode = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["run"] => Mode::Run,
        ["fleet"] => Mode::Fleet,
        ["compare", "relay"] => Mode::CompareRelay,
        ["compare", "fanout"] => Mode::CompareFanout,
        ["soak"] => Mode::Soak,
        ["failures"] => Mode::Failures,
        ["fleets"] => Mode::Fleets,
        ["streams"] => Mode::Streams,
        ref other => {
            return Err(format!(
                "no mode {:?}: run, fleet, compare relay, compare fanout, soak, failures, fleets or streams",
                other.join(" ")
            ));
        }
    };
    if options.prefix.is_empty() {
        options.prefix = if mode == Mode::Fleet { "router-" } else { "load-" }.to_string();
    }
    if !matches!(mode, Mode::Run | Mode::Fleet) && options.daemon.is_none() {
        return Err(format!("{} needs --daemon", words[0]));
    }
    if options.routers == 0 && options.callers > 0 && mode == Mode::Run {
        return Err("callers without routers have nobody to call: add --callers 0".into());
    }
    Ok((mode, options))
}

fn option(name: &str, parser: &mut lexopt::Parser, options: &mut Options) -> Result<(), String> {
    let switch = match name {
        "json" => Some(&mut options.json),
        "quick" => Some(&mut options.quick),
        "planted" => Some(&mut options.planted),
        _ => None,
    };
    if let Some(switch) = switch {
        *switch = true;
        return Ok(());
    }
    let of_plan = Plan::OPTIONS.contains(&name);
    if !of_plan && !KNOWN.contains(&name) {
        return Err("no such option; see loadgen --help".into());
    }
    let value = parser.value().map_err(|e| e.to_string())?.to_string_lossy().into_owned();
    let value = value.as_str();
    if of_plan {
        return options.plan.set(name, value);
    }
    match name {
        "router" => options.addresses.router = number(value)?,
        "http" => options.addresses.http = number(value)?,
        "app" => options.addresses.app = number(value)?,
        "page" => options.addresses.page = number(value)?,
        "daemon" => options.daemon = Some(value.into()),
        "config" => options.config = Some(value.into()),
        "daemon-log" => options.daemon_log = Some(value.into()),
        "baseline" => options.baseline = Some(value.into()),
        "pid" => options.pid = Some(number(value)?),
        "routers" => options.routers = number(value)?,
        "callers" => options.callers = number(value)?,
        "apps" => options.apps = number(value)?,
        "pages" => options.pages = number(value)?,
        "watchers" => options.watchers = number(value)?,
        "app-watch" => options.app_watch = watch(value)?,
        "page-watch" => options.page_watch = watch(value)?,
        "prefix" => options.prefix = value.to_string(),
        "event-rate" => options.event_rate = rate(value)?,
        "think-ms" => options.think = seconds(value, 0.001)?,
        "command-rate" => options.command_rate = Some(rate(value)?),
        "client-command-rate" => options.client_command_rate = rate(value)?,
        "command-bytes" => options.command_bytes = sizes(value)?,
        "reply-bytes" => options.reply_bytes = sizes(value)?,
        "event-bytes" => options.event_bytes = sizes(value)?,
        "big-bytes" => options.big_bytes = sizes(value)?,
        "big-share" => options.big_share = share(value)?,
        "json-share" => options.json_share = share(value)?,
        "oneway-share" => options.oneway_share = share(value)?,
        "fail-share" => options.fail_share = share(value)?,
        "retain-share" => options.retain_share = share(value)?,
        "timeout-ms" => options.timeout = seconds(value, 0.001)?,
        "duration" => options.duration = seconds(value, 1.0)?,
        "ramp" => options.ramp = rate(value)?.max(1.0),
        "drain" => options.drain = seconds(value, 1.0)?,
        "interval" => options.interval = seconds(value, 1.0)?,
        "seed" => options.seed = number(value)?,
        "pairs" => options.pairs = number::<usize>(value)?.max(1),
        "count" => options.count = Some(number(value)?),
        "bytes" => options.bytes = number(value)?,
        "hours" => options.hours = rate(value)?,
        "csv" => options.csv = value.into(),
        "report" => options.report = Some(value.into()),
        "only" => options.only = Some(value.to_string()),
        _ => unreachable!("every known option has its line"),
    }
    Ok(())
}

const KNOWN: &[&str] = &[
    "router",
    "http",
    "app",
    "page",
    "daemon",
    "config",
    "daemon-log",
    "baseline",
    "pid",
    "routers",
    "callers",
    "apps",
    "pages",
    "watchers",
    "app-watch",
    "page-watch",
    "prefix",
    "event-rate",
    "think-ms",
    "command-rate",
    "client-command-rate",
    "command-bytes",
    "reply-bytes",
    "event-bytes",
    "big-bytes",
    "big-share",
    "json-share",
    "oneway-share",
    "fail-share",
    "retain-share",
    "timeout-ms",
    "duration",
    "ramp",
    "drain",
    "interval",
    "seed",
    "pairs",
    "count",
    "bytes",
    "hours",
    "csv",
    "report",
    "only",
];

pub(crate) fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{value:?} will not do"))
}

fn rate(value: &str) -> Result<f64, String> {
    number::<f64>(value).and_then(|rate| {
        if rate.is_finite() && rate >= 0.0 { Ok(rate) } else { Err(format!("{value:?} is no rate")) }
    })
}

pub(crate) fn seconds(value: &str, unit: f64) -> Result<Duration, String> {
    Ok(Duration::from_secs_f64(rate(value)?.min(1e9) * unit))
}

pub(crate) fn share(value: &str) -> Result<f64, String> {
    rate(value).and_then(|share| if share <= 1.0 { Ok(share) } else { Err(format!("{value:?} is over 1")) })
}

pub(crate) fn sizes(value: &str) -> Result<Sizes, String> {
    let (low, high) = value.split_once('-').unwrap_or((value, value));
    let sizes = (number(low)?, number(high)?);
    if sizes.0 <= sizes.1 && sizes.1 <= MAX_BODY_BYTES {
        Ok(sizes)
    } else {
        Err(format!("{value:?} is no range within 0 to {MAX_BODY_BYTES}"))
    }
}

fn watch(value: &str) -> Result<Watch, String> {
    match value {
        "one" => Ok(Watch::One),
        "all" => Ok(Watch::All),
        other => Err(format!("{other:?} is neither one nor all")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(Mode, Options), String> {
        parse(line.split_whitespace().map(Into::into))
    }

    #[test]
    fn defaults_are_the_run_of_the_readme() {
        let (mode, options) = parsed("").unwrap();
        assert_eq!(mode, Mode::Run);
        assert_eq!((options.routers, options.apps, options.pages, options.callers), (200, 100, 100, 64));
        assert_eq!((options.duration, options.prefix.as_str()), (Duration::from_secs(60), "load-"));
        assert_eq!(parsed("fleet").unwrap().1.prefix, "router-");
    }

    #[test]
    fn options_may_stand_before_and_after_the_mode() {
        let (mode, options) = parsed("--pairs 3 compare relay --daemon=/bin/true --bytes 10").unwrap();
        assert_eq!((mode, options.pairs, options.bytes), (Mode::CompareRelay, 3, 10));
        let (_, options) = parsed("run --event-bytes 10-20 --think-ms 0.5 --json --app-watch all").unwrap();
        assert_eq!((options.event_bytes, options.json, options.app_watch), ((10, 20), true, Watch::All));
        assert_eq!(options.think, Duration::from_micros(500));
    }

    #[test]
    fn bad_usage_is_refused() {
        for line in [
            "nonsense",
            "--no-such 1",
            "--routers",
            "--routers x",
            "--big-share 2",
            "--event-bytes 9-3",
            "--event-rate -1",
            "compare relay",
            "soak",
            "failures --daemon",
            "--routers 0",
            "-x",
            "--app-watch two",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn every_known_option_is_in_the_help() {
        for name in KNOWN {
            assert!(crate::usage::USAGE.contains(&format!("--{name}")), "--{name}");
        }
    }
}
