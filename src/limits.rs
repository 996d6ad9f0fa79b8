//! Every limit of the daemon, in one place: what the contract fixes as constants, and what the operator may set.
//!
//! The sums, at the defaults: a router may hold 2 MiB of queue and 1 MiB of half-received messages, an HTTP caller 4 MiB
//! of answers and 1 MiB of body, a WebSocket client 4 MiB of queue and one message of 64 KiB. The sum of all of it is
//! bounded by `memory.max_buffered_bytes` (256 MiB), whatever the number of connections; it is looked at between frames, so
//! it is passed by what one frame brings at most (1 MiB, and 100 bytes for each watcher).

use std::net::SocketAddr;
use std::time::Duration;

// --- Router link, section 1: constants of the protocol -------------------------------------------------------------

/// The longest body of one frame, in bytes.
pub const MAX_FRAGMENT_BYTES: usize = 16_384;
/// The longest row of a stream: an ITEM's body without its sequence number, in bytes.
pub const MAX_ROW_BYTES: usize = MAX_FRAGMENT_BYTES - 8;
/// The longest message, and the most that one connection may hold in half-received messages, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1_048_576;
/// The longest name that any frame may announce (a topic), in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Router ids and command names, in bytes.
pub const MAX_ID_BYTES: usize = 64;
/// The body of a PING or PONG, in bytes.
pub const MAX_PING_BYTES: usize = 64;
/// The reason of a BYE, in bytes.
pub const MAX_BYE_BYTES: usize = 256;
/// The only protocol version there is.
pub const PROTOCOL_VERSION: u32 = 1;
/// ACKs are queued while the system lane holds less than this: those that wait are merged.
pub const MAX_ACK_LANE_BYTES: usize = 4096;
/// A system lane that holds more than this after a write ends the session as `slow_consumer`.
pub const MAX_SYSTEM_LANE_BYTES: usize = 65_536;

// --- Other constants -----------------------------------------------------------------------------------------------

/// After the last bytes of a queue that a peer took slowly it may still be reading them, out of its kernel's buffer: for so
/// long it is not taken for dead if it says nothing. 256 KiB at 50 KB/s.
pub const SLOW_READER_GRACE: Duration = Duration::from_secs(5);
/// What a connection in its last words may still send before it is closed, in bytes.
pub const MAX_LAST_WORDS_BYTES: u64 = 1_048_576;
/// Values and events that are replayed are queued at most this far ahead of what the client has taken, in bytes.
pub const MAX_REPLAY_AHEAD_BYTES: usize = 262_144;
/// What all replays together queue in one turn, in bytes; each value and event that is looked at counts as so many more, so that
/// a turn does not grow with the clients that catch up.
pub const REPLAY_BYTES_PER_TURN: usize = 262_144;
pub const REPLAY_LOOK_BYTES: usize = 64;
/// The least share of that for a client whose turn it is, in bytes.
pub const MIN_REPLAY_SHARE_BYTES: usize = 16_384;
/// A watcher over HTTP that nothing was queued for so long gets a comment.
pub const COMMENT_EVERY: Duration = Duration::from_secs(15);
/// The most requests in one JSON-RPC batch.
pub const MAX_BATCH: usize = 16;
/// The range of `timeout_ms`, and what it is when it is not given.
pub const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 1..=600_000;
pub const DEFAULT_TIMEOUT_MS: u64 = 1000;
/// The ranges of a stream's window and of its first row, and what they are when they are not given.
pub const STREAM_MESSAGES: std::ops::RangeInclusive<u32> = 1..=1024;
pub const DEFAULT_STREAM_MESSAGES: u32 = 20;
pub const STREAM_BYTES: std::ops::RangeInclusive<u32> = 16_384..=1_048_576;
pub const DEFAULT_STREAM_BYTES: u32 = 65_536;
pub const STREAM_FROM: std::ops::RangeInclusive<u64> = 0..=i64::MAX as u64;
/// After so many reopenings in a row that brought no new row a stream ends.
pub const MAX_BARREN_REOPENINGS: u32 = 10;
/// The range of `limit` of a list, and what it is when it is not given.
pub const PAGE: std::ops::RangeInclusive<usize> = 1..=1000;
pub const DEFAULT_PAGE: usize = 100;
/// What one `read` takes at most, and the budget of a connection for one turn of the loop, in bytes.
pub const READ_CHUNK_BYTES: usize = 65_536;
/// What all connections together are read in one turn: then it writes and looks at the time, and the rest comes next.
pub const READ_BYTES_PER_TURN: usize = 4 << 20;
/// A connection whose last read brought so many bytes is read behind the others, who have little to say: a PING does not wait
/// for a flood.
pub const BULKY_READ_BYTES: usize = 8192;
/// What all of those together are read in one turn: a few tenths of a millisecond.
pub const BULKY_BYTES_PER_TURN: usize = 262_144;
/// Frames of one router that one turn carries out: as many fit into one read as are twelve bytes long.
pub const ROUTER_FRAMES_PER_TURN: usize = 1024;
/// Requests or JSON-RPC messages of one connection that one turn carries out.
pub const REQUESTS_PER_TURN: usize = 64;
/// When one turn has queued more answers than this for a connection, its next request is the next turn's, in bytes.
pub const ANSWERS_PER_TURN_BYTES: usize = 262_144;
/// Frames that one turn queues before it stops reading and writes.
pub const FRAMES_PER_TURN: u64 = 65_536;
/// What one `write` hands to the kernel at most, in bytes.
pub const WRITE_CHUNK_BYTES: usize = 262_144;
/// Connections accepted from one listener in one turn.
pub const ACCEPTS_PER_TURN: usize = 64;
/// Pending connections in the kernel, for the storm when a whole fleet comes back at once.
pub const LISTEN_BACKLOG: i32 = 4096;
/// How often the tables are looked after, and how soon after a connection has ended.
pub const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);
pub const GIVE_BACK_DELAY: Duration = Duration::from_millis(100);
/// Pages of 64 entries that housekeeping looks through for strays at a time.
pub const PATROL_PAGES: usize = 64;
/// A turn of the loop that takes longer is logged.
pub const LONG_TURN: Duration = Duration::from_millis(50);
/// A listener that ran out of descriptors tries again after this long.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(500);

/// Descriptors that routers and clients leave to HTTP, listeners and files, of the `limit` that the process has.
pub fn kept_descriptors(limit: usize) -> usize {
    (limit / 8).min(64)
}

// --- What the operator may set, section 7 --------------------------------------------------------------------------

/// The configuration, as the loop uses it. [`Settings::default`] is the table of SPEC section 7.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub router: RouterSettings,
    pub http: HttpSettings,
    pub app: WebSocketSettings,
    pub page: WebSocketSettings,
    pub shadow: ShadowSettings,
    pub stream: StreamSettings,
    /// `memory.max_buffered_bytes`: all queues and half-received messages together.
    pub max_buffered_bytes: usize,
    /// `queue.soft_s`: how long a queue may be over half full while its socket takes nothing.
    pub queue_soft: Duration,
    /// `close_grace_s`: how long a connection in its last words is waited for.
    pub close_grace: Duration,
    /// `drain_s`: how long a drain waits for pending commands and streams.
    pub drain: Duration,
    /// `census.log_every_s`; `None` is off.
    pub census_log_every: Option<Duration>,
    pub log: LogSettings,
}

/// What every listener has: addresses, TCP options (section 2), connection caps.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenSettings {
    pub bind: Vec<SocketAddr>,
    /// `keepalive.{idle_s,interval_s,count,user_timeout_s}`: whole seconds.
    pub keepalive_idle_s: u32,
    pub keepalive_interval_s: u32,
    pub keepalive_count: u32,
    pub user_timeout_s: u32,
    /// `notsent_lowat_bytes`; `None` is off.
    pub notsent_lowat_bytes: Option<u32>,
    pub max_connections: usize,
    /// `max_per_ip`; `None` is off.
    pub max_per_ip: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeartbeatSettings {
    pub interval: Duration,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RouterSettings {
    pub listen: ListenSettings,
    pub heartbeat: HeartbeatSettings,
    pub hello_timeout: Duration,
    pub max_pending: usize,
    /// Streams of one router that are under way.
    pub max_streams: usize,
    pub max_queued_bytes: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpSettings {
    pub listen: ListenSettings,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub max_header_bytes: usize,
    pub max_body_bytes: usize,
    pub max_queued_bytes: usize,
    /// Commands of one fleet call that are outstanding at a time.
    pub fleet_window: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WebSocketSettings {
    pub listen: ListenSettings,
    pub heartbeat: HeartbeatSettings,
    pub handshake_timeout: Duration,
    pub max_pending: usize,
    pub max_subscriptions: usize,
    pub max_queued_bytes: usize,
    pub max_message_bytes: usize,
    /// `websocket.page.origins`; always empty for apps.
    pub origins: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShadowSettings {
    /// `shadow.keep_s`; zero forgets the shadow with the session.
    pub keep: Duration,
    pub max_offline: usize,
    /// Retained values of one router.
    pub max_topics: usize,
    /// Bytes of the retained values of one router.
    pub max_bytes: usize,
    /// All shadows together.
    pub max_total_bytes: usize,
    /// Events of one router that are remembered; zero is off.
    pub history_events: usize,
    /// Bytes of the events of one router that are remembered; zero is off.
    pub history_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamSettings {
    /// `stream.resume_s`: how long a stream waits for its router to come back.
    pub resume: Duration,
    /// `stream.idle_s`: how long it waits for a row while the router may send one.
    pub idle: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogSettings {
    pub level: log::LevelFilter,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Logfmt,
    Json,
}

impl ShadowSettings {
    /// Whether an event whose topic and body take `bytes` has a place in a history.
    pub fn remembers(&self, bytes: usize) -> bool {
        self.history_events > 0 && bytes <= self.history_bytes
    }
}

impl ListenSettings {
    fn new(port: u16, max_connections: usize, notsent_lowat_bytes: Option<u32>) -> Self {
        Self {
            bind: vec![SocketAddr::from(([127, 0, 0, 1], port))],
            keepalive_idle_s: 15,
            keepalive_interval_s: 15,
            keepalive_count: 4,
            user_timeout_s: 75,
            notsent_lowat_bytes,
            max_connections,
            max_per_ip: None,
        }
    }
}

impl Default for HeartbeatSettings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(60), timeout: Duration::from_secs(20) }
    }
}

impl WebSocketSettings {
    fn new(port: u16) -> Self {
        Self {
            listen: ListenSettings::new(port, 50_000, None),
            heartbeat: HeartbeatSettings::default(),
            handshake_timeout: Duration::from_secs(5),
            max_pending: 64,
            max_subscriptions: 64,
            max_queued_bytes: 4 << 20,
            max_message_bytes: 65_536,
            origins: Vec::new(),
        }
    }
}

impl Settings {
    /// The caps on connections together.
    pub fn most_connections(&self) -> usize {
        let listens = [&self.router.listen, &self.http.listen, &self.app.listen, &self.page.listen];
        listens.iter().map(|listen| listen.max_connections).sum()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            router: RouterSettings {
                listen: ListenSettings::new(7000, 100_000, Some(16_384)),
                heartbeat: HeartbeatSettings::default(),
                hello_timeout: Duration::from_secs(5),
                max_pending: 64,
                max_streams: 16,
                max_queued_bytes: 2 << 20,
            },
            http: HttpSettings {
                listen: ListenSettings::new(7080, 4096, Some(16_384)),
                header_timeout: Duration::from_secs(5),
                body_timeout: Duration::from_secs(30),
                idle_timeout: Duration::from_secs(60),
                max_header_bytes: 16_384,
                max_body_bytes: 1 << 20,
                max_queued_bytes: 4 << 20,
                fleet_window: 256,
            },
            app: WebSocketSettings::new(7001),
            page: WebSocketSettings::new(7002),
            shadow: ShadowSettings {
                keep: Duration::from_secs(86_400),
                max_offline: 10_000,
                max_topics: 32,
                max_bytes: 65_536,
                max_total_bytes: 256 << 20,
                history_events: 256,
                history_bytes: 65_536,
            },
            stream: StreamSettings { resume: Duration::from_secs(30), idle: Duration::from_secs(30) },
            max_buffered_bytes: 256 << 20,
            queue_soft: Duration::from_secs(10),
            close_grace: Duration::from_secs(2),
            drain: Duration::from_secs(10),
            census_log_every: Some(Duration::from_secs(300)),
            log: LogSettings { level: log::LevelFilter::Info, format: LogFormat::Logfmt },
        }
    }
}
