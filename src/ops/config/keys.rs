//! The table of keys: for each its name, the most it may be, and the place in [`Settings`] that it sets.
//!
//! All else follows from a row: the unit from the end of the name, and what may be written, whether 0 means off and
//! the default from the place. The tests hold `config.toml` and `docs/configuration.md` against this table.

use std::net::SocketAddr;
use std::time::Duration;

use log::LevelFilter;

use crate::limits::{LogFormat, Settings};

/// What a key sets. The variant decides which TOML values it takes.
pub enum Place<'a> {
    /// More than zero; fractions are fine.
    Seconds(&'a mut Duration),
    /// The same, or 0, which is off and kept as zero.
    SecondsOrZero(&'a mut Duration),
    SecondsOrOff(&'a mut Option<Duration>),
    /// Whole seconds, bytes or things.
    Whole(&'a mut u32),
    WholeOrOff(&'a mut Option<u32>),
    Size(&'a mut usize),
    /// The same, or 0, which is off and kept as zero.
    SizeOrZero(&'a mut usize),
    SizeOrOff(&'a mut Option<usize>),
    Addresses(&'a mut Vec<SocketAddr>),
    Origins(&'a mut Vec<String>),
    Level(&'a mut LevelFilter),
    Format(&'a mut LogFormat),
}

use Place::*;

/// One key of the configuration file.
pub struct Key {
    /// The full dotted name.
    pub name: &'static str,
    /// The highest value, in the unit of the key; for a list the most entries.
    pub max: u64,
    pub place: for<'a> fn(&'a mut Settings) -> Place<'a>,
}

/// Durations: 30 days. What is meant to last longer is meant to be off.
pub const MAX_SECONDS: u64 = 30 * 86_400;
/// Linux takes no higher values for TCP_KEEPIDLE and TCP_KEEPINTVL (tcp(7)).
const MAX_KEEPALIVE_S: u64 = 32_767;
/// TCP_USER_TIMEOUT is a signed 32-bit number of milliseconds.
pub const MAX_USER_TIMEOUT_S: u64 = 2_147_483;
/// Linux takes no higher value for TCP_KEEPCNT (tcp(7)).
pub const MAX_KEEPALIVE_COUNT: u64 = 127;
const MAX_CONNECTIONS: u64 = 1_000_000;
const MAX_THINGS: u64 = 65_536;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MAX_LIST: u64 = 64;

const fn key(name: &'static str, max: u64, place: for<'a> fn(&'a mut Settings) -> Place<'a>) -> Key {
    Key { name, max, place }
}

/// The keys of every listener.
macro_rules! listener {
    ($name:literal, $of:ident) => {
        &[
            key(concat!($name, ".bind"), MAX_LIST, |s| Addresses(&mut s.$of.listen.bind)),
            key(concat!($name, ".keepalive.idle_s"), MAX_KEEPALIVE_S, |s| {
                Whole(&mut s.$of.listen.keepalive_idle_s)
            }),
            key(concat!($name, ".keepalive.interval_s"), MAX_KEEPALIVE_S, |s| {
                Whole(&mut s.$of.listen.keepalive_interval_s)
            }),
            key(concat!($name, ".keepalive.count"), MAX_KEEPALIVE_COUNT, |s| {
                Whole(&mut s.$of.listen.keepalive_count)
            }),
            key(concat!($name, ".keepalive.user_timeout_s"), MAX_USER_TIMEOUT_S, |s| {
                Whole(&mut s.$of.listen.user_timeout_s)
            }),
            key(concat!($name, ".notsent_lowat_bytes"), 16 * MIB, |s| {
                WholeOrOff(&mut s.$of.listen.notsent_lowat_bytes)
            }),
            key(concat!($name, ".max_connections"), MAX_CONNECTIONS, |s| {
                Size(&mut s.$of.listen.max_connections)
            }),
            key(concat!($name, ".max_per_ip"), MAX_CONNECTIONS, |s| SizeOrOff(&mut s.$of.listen.max_per_ip)),
        ]
    };
}

macro_rules! heartbeat {
    ($name:literal, $of:ident) => {
        &[
            key(concat!($name, ".heartbeat.interval_s"), MAX_SECONDS, |s| {
                Seconds(&mut s.$of.heartbeat.interval)
            }),
            key(concat!($name, ".heartbeat.timeout_s"), MAX_SECONDS, |s| {
                Seconds(&mut s.$of.heartbeat.timeout)
            }),
        ]
    };
}

macro_rules! websocket {
    ($name:literal, $of:ident) => {
        &[
            key(concat!($name, ".handshake_timeout_s"), MAX_SECONDS, |s| {
                Seconds(&mut s.$of.handshake_timeout)
            }),
            key(concat!($name, ".max_pending"), MAX_THINGS, |s| Size(&mut s.$of.max_pending)),
            key(concat!($name, ".max_subscriptions"), MAX_THINGS, |s| Size(&mut s.$of.max_subscriptions)),
            key(concat!($name, ".max_queued_bytes"), GIB, |s| Size(&mut s.$of.max_queued_bytes)),
            key(concat!($name, ".max_message_bytes"), 16 * MIB, |s| Size(&mut s.$of.max_message_bytes)),
        ]
    };
}

const ROUTER: &[Key] = &[
    key("router.hello_timeout_s", MAX_SECONDS, |s| Seconds(&mut s.router.hello_timeout)),
    key("router.max_pending", MAX_THINGS, |s| Size(&mut s.router.max_pending)),
    key("router.max_streams", MAX_THINGS, |s| Size(&mut s.router.max_streams)),
    key("router.max_queued_bytes", GIB, |s| Size(&mut s.router.max_queued_bytes)),
];

const HTTP: &[Key] = &[
    key("http.header_timeout_s", MAX_SECONDS, |s| Seconds(&mut s.http.header_timeout)),
    key("http.body_timeout_s", MAX_SECONDS, |s| Seconds(&mut s.http.body_timeout)),
    key("http.idle_timeout_s", MAX_SECONDS, |s| Seconds(&mut s.http.idle_timeout)),
    key("http.max_header_bytes", MIB, |s| Size(&mut s.http.max_header_bytes)),
    key("http.max_body_bytes", 16 * MIB, |s| Size(&mut s.http.max_body_bytes)),
    key("http.max_queued_bytes", GIB, |s| Size(&mut s.http.max_queued_bytes)),
    key("http.fleet_window", MAX_THINGS, |s| Size(&mut s.http.fleet_window)),
];

const PAGE: &[Key] = &[key("websocket.page.origins", MAX_LIST, |s| Origins(&mut s.page.origins))];

const DAEMON: &[Key] = &[
    key("shadow.keep_s", MAX_SECONDS, |s| SecondsOrZero(&mut s.shadow.keep)),
    key("shadow.max_offline", 10_000_000, |s| Size(&mut s.shadow.max_offline)),
    key("shadow.max_topics", MAX_THINGS, |s| Size(&mut s.shadow.max_topics)),
    key("shadow.max_bytes", GIB, |s| Size(&mut s.shadow.max_bytes)),
    key("shadow.max_total_bytes", 1024 * GIB, |s| Size(&mut s.shadow.max_total_bytes)),
    key("shadow.history_events", MAX_THINGS, |s| SizeOrZero(&mut s.shadow.history_events)),
    key("shadow.history_bytes", GIB, |s| SizeOrZero(&mut s.shadow.history_bytes)),
    key("stream.resume_s", MAX_SECONDS, |s| Seconds(&mut s.stream.resume)),
    key("stream.idle_s", MAX_SECONDS, |s| Seconds(&mut s.stream.idle)),
    key("memory.max_buffered_bytes", 1024 * GIB, |s| Size(&mut s.max_buffered_bytes)),
    key("queue.soft_s", MAX_SECONDS, |s| Seconds(&mut s.queue_soft)),
    key("close_grace_s", MAX_SECONDS, |s| Seconds(&mut s.close_grace)),
    key("drain_s", MAX_SECONDS, |s| Seconds(&mut s.drain)),
    key("census.log_every_s", MAX_SECONDS, |s| SecondsOrOff(&mut s.census_log_every)),
    key("log.level", 0, |s| Level(&mut s.log.level)),
    key("log.format", 0, |s| Format(&mut s.log.format)),
];

static TABLE: [&[Key]; 13] = [
    listener!("router", router),
    heartbeat!("router", router),
    ROUTER,
    listener!("http", http),
    HTTP,
    listener!("websocket.app", app),
    heartbeat!("websocket.app", app),
    websocket!("websocket.app", app),
    listener!("websocket.page", page),
    heartbeat!("websocket.page", page),
    websocket!("websocket.page", page),
    PAGE,
    DAEMON,
];

/// Keys and sections of the contract that a later version will have. They are refused, never accepted and ignored,
/// because a file that asks for TLS or keys must not end in a daemon without them.
const LATER: [&str; 6] =
    ["auth", "router.tls", "http.token_file", "http.tls", "websocket.app.tls", "websocket.page.tls"];

/// Every key, in the order of `docs/configuration.md`.
pub fn all() -> impl Iterator<Item = &'static Key> {
    TABLE.iter().copied().flatten()
}

/// What a dotted name stands for.
pub enum Named {
    Key(&'static Key),
    /// Keys begin with this name and a dot.
    Section,
    Later,
    Unknown,
}

pub fn find(name: &str) -> Named {
    let begins = |key: &&Key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    if let Some(key) = all().find(|key| key.name == name) {
        Named::Key(key)
    } else if LATER.contains(&name) {
        Named::Later
    } else if all().any(|key| begins(&key)) {
        Named::Section
    } else {
        Named::Unknown
    }
}

/// The known name that the writer of an unknown one may have meant: a key or section spelled almost the same, or a
/// key that only lacks its section.
pub fn nearest(unknown: &str) -> Option<&'static str> {
    let tail = |name: &str| name.strip_suffix(unknown).is_some_and(|head| head.ends_with('.'));
    let prefixes = |name: &'static str| {
        name.match_indices('.').map(move |(dot, _)| &name[..dot]).chain(std::iter::once(name))
    };
    if let Some(key) = all().find(|key| tail(key.name)) {
        return Some(key.name);
    }
    let (distance, name) =
        all().flat_map(|key| prefixes(key.name)).map(|name| (edits(unknown, name), name)).min()?;
    (distance <= 1 + unknown.chars().count() / 5).then_some(name)
}

/// The Levenshtein distance, in characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

impl Key {
    /// What may be written, for an error message and for the documentation.
    pub fn allowed(&self) -> String {
        let max = self.max;
        let unit = match self.name {
            name if name.ends_with("_s") => " s",
            name if name.ends_with("_bytes") => " bytes",
            _ => "",
        };
        match (self.place)(&mut Settings::default()) {
            Seconds(_) => format!("0.001 to {max}{unit}"),
            SecondsOrZero(_) | SecondsOrOff(_) => format!("0 (off) or 0.001 to {max}{unit}"),
            Whole(_) | Size(_) => format!("1 to {max}{unit}, whole"),
            WholeOrOff(_) | SizeOrZero(_) | SizeOrOff(_) => format!("0 (off) or 1 to {max}{unit}, whole"),
            Addresses(_) => format!("\"ADDRESS:PORT\", or a list of 1 to {max} of them"),
            Origins(_) => format!("a list of up to {max} of \"SCHEME://HOST\" or \"SCHEME://HOST:PORT\""),
            Level(_) => r#""error", "warn", "info", "debug" or "trace""#.to_owned(),
            Format(_) => r#""logfmt" or "json""#.to_owned(),
        }
    }
}

#[cfg(test)]
impl Key {
    /// The value in `settings` as it would be written in the file.
    pub fn written(&self, settings: &Settings) -> String {
        fn number<T: ToString + Copy>(value: &Option<T>) -> String {
            value.as_ref().map_or("0".to_owned(), T::to_string)
        }
        fn quoted<T: ToString>(values: &[T]) -> String {
            let all: Vec<String> = values.iter().map(|value| format!("\"{}\"", value.to_string())).collect();
            if all.len() == 1 { all[0].clone() } else { format!("[{}]", all.join(", ")) }
        }
        match (self.place)(&mut settings.clone()) {
            Seconds(value) | SecondsOrZero(value) => value.as_secs_f64().to_string(),
            SecondsOrOff(value) => number(&value.map(|value| value.as_secs_f64())),
            Whole(value) => value.to_string(),
            WholeOrOff(value) => number(value),
            Size(value) | SizeOrZero(value) => value.to_string(),
            SizeOrOff(value) => number(value),
            Addresses(value) => quoted(value),
            Origins(value) => quoted(value),
            Level(value) => quoted(&[value.as_str().to_ascii_lowercase()]),
            Format(value) => quoted(&[format!("{value:?}").to_ascii_lowercase()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_what_comes_later_is_none_of_them() {
        let mut names: Vec<&str> = all().map(|key| key.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(LATER.iter().all(|name| matches!(find(name), Named::Later)));
    }

    #[test]
    fn each_key_sets_a_place_of_its_own() {
        for one in all() {
            let mut changed = Settings::default();
            match (one.place)(&mut changed) {
                Seconds(place) | SecondsOrZero(place) => *place += Duration::from_secs(1),
                SecondsOrOff(place) => *place = None,
                Whole(place) => *place += 1,
                WholeOrOff(place) => *place = Some(77),
                Size(place) | SizeOrZero(place) => *place += 1,
                SizeOrOff(place) => *place = Some(77),
                Addresses(place) => place.clear(),
                Origins(place) => place.push("https://a".to_owned()),
                Level(place) => *place = LevelFilter::Trace,
                Format(place) => *place = LogFormat::Json,
            }
            for other in all() {
                let same = other.written(&changed) == other.written(&Settings::default());
                assert_eq!(same, other.name != one.name, "{} and {}", one.name, other.name);
            }
        }
    }

    #[test]
    fn the_nearest_name_is_what_a_typo_meant() {
        let cases = [
            ("router.max_pendign", Some("router.max_pending")),
            ("rooter", Some("router")),
            ("http.keepalive.idle", Some("http.keepalive.idle_s")),
            ("soft_s", Some("queue.soft_s")),
            ("websocket.app.origins", Some("websocket.page.origins")),
            ("log_level", Some("log.level")),
            ("colour", None),
        ];
        for (unknown, meant) in cases {
            assert_eq!(nearest(unknown), meant, "{unknown}");
        }
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("same", "same"), 0);
    }
}
