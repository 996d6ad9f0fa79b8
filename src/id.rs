//! Names of things: tokens, classes of connections, reasons, and the charset of ids and topics.

use crate::limits::{MAX_ID_BYTES, MAX_NAME_BYTES};

/// Names one connection for ever: a slot of the table and the generation that lived in it. A token whose generation is
/// not the one in the slot is stale, and whatever carries it falls on nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    pub slot: u32,
    pub generation: u32,
}

impl Token {
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    pub fn from_u64(value: u64) -> Self {
        Self { slot: value as u32, generation: (value >> 32) as u32 }
    }
}

/// Counts the tenants of all slots of a table: never zero, so that zero can mean "no tenant of this table".
#[derive(Debug, Default)]
pub struct Generations(u32);

impl Generations {
    pub fn draw(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(1).max(1);
        self.0
    }
}

/// The classes of connections, as the census names them (SPEC section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    Router,
    Http,
    App,
    Page,
}

impl Class {
    pub const ALL: [Class; 4] = [Class::Router, Class::Http, Class::App, Class::Page];

    pub fn name(self) -> &'static str {
        match self {
            Class::Router => "router",
            Class::Http => "http",
            Class::App => "app",
            Class::Page => "page",
        }
    }
}

/// Why a connection ended (SPEC section 6): each has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    PeerClosed,
    PeerReset,
    Keepalive,
    HeartbeatTimeout,
    HelloTimeout,
    HeaderTimeout,
    IdleTimeout,
    Takeover,
    Kicked,
    Draining,
    Done,
    SlowConsumer,
    LimitExceeded,
    ProtocolError,
    TooLarge,
    Unauthorized,
    RouterLost,
    IoError,
}

impl Reason {
    pub const ALL: [Reason; 18] = [
        Reason::PeerClosed,
        Reason::PeerReset,
        Reason::Keepalive,
        Reason::HeartbeatTimeout,
        Reason::HelloTimeout,
        Reason::HeaderTimeout,
        Reason::IdleTimeout,
        Reason::Takeover,
        Reason::Kicked,
        Reason::Draining,
        Reason::Done,
        Reason::SlowConsumer,
        Reason::LimitExceeded,
        Reason::ProtocolError,
        Reason::TooLarge,
        Reason::Unauthorized,
        Reason::RouterLost,
        Reason::IoError,
    ];

    /// The name in the census, in presence and (where a BYE code of that name exists) on the router link.
    pub fn name(self) -> &'static str {
        match self {
            Reason::PeerClosed => "peer_closed",
            Reason::PeerReset => "peer_reset",
            Reason::Keepalive => "keepalive",
            Reason::HeartbeatTimeout => "heartbeat_timeout",
            Reason::HelloTimeout => "hello_timeout",
            Reason::HeaderTimeout => "header_timeout",
            Reason::IdleTimeout => "idle_timeout",
            Reason::Takeover => "takeover",
            Reason::Kicked => "kicked",
            Reason::Draining => "draining",
            Reason::Done => "done",
            Reason::SlowConsumer => "slow_consumer",
            Reason::LimitExceeded => "limit_exceeded",
            Reason::ProtocolError => "protocol_error",
            Reason::TooLarge => "too_large",
            Reason::Unauthorized => "unauthorized",
            Reason::RouterLost => "router_lost",
            Reason::IoError => "io_error",
        }
    }
}

/// A router id, command name or stream name: 1 to 64 of `A-Za-z0-9._:-`.
pub fn is_id(text: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(is_id_byte)
}

/// A topic that a router may use: 1 to 128 of the same and `/`.
pub fn is_topic(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(|byte| is_id_byte(byte) || byte == b'/')
}

/// The server's own topic of who is bound.
pub const PRESENCE: &str = "$presence";

fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-')
}

/// Session and client ids: the run (24 random bits) and a count, 16 hex digits, so that text order is the order of birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(u64);

impl std::fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl SessionId {
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        (text.len() == 16 && lower).then(|| u64::from_str_radix(text, 16).ok().map(Self))?
    }
}

/// Where a watcher of events stands: the run of the daemon, and the number of an event in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    pub run: u64,
    pub number: u64,
}

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{}", self.run, self.number)
    }
}

impl EventId {
    pub fn parse(text: &str) -> Option<Self> {
        let (run, number) = text.split_once('-')?;
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse().ok().filter(|_| is_number)?;
        SessionId::parse(run).map(|run| Self { run: run.0, number })
    }
}

/// Makes the ids that must not come again after a restart: sessions, clients, epochs.
#[derive(Debug)]
pub struct Mint {
    run: u64,
    count: u64,
    random: u64,
}

impl Mint {
    /// `seed` is random in the daemon and chosen in the simulator.
    pub fn new(seed: u64) -> Self {
        let mut mint = Self { run: 0, count: 0, random: seed };
        mint.run = mint.random() >> 40;
        mint
    }

    pub fn session(&mut self) -> SessionId {
        self.count += 1;
        SessionId(self.run << 40 | (self.count & ((1 << 40) - 1)))
    }

    /// SplitMix64: every seed gives a full-period sequence; nothing here is a secret.
    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charset_of_ids_and_topics() {
        assert!(is_id("hub-1.a_b:C"));
        assert!(
            !is_id("") && !is_id("a/b") && !is_id("ä") && !is_id(&"a".repeat(65)) && is_id(&"a".repeat(64))
        );
        assert!(
            is_topic("a/b")
                && is_topic(&"t".repeat(128))
                && !is_topic(&"t".repeat(129))
                && !is_topic("$presence")
        );
    }

    #[test]
    fn session_ids_sort_by_birth_and_parse_back() {
        let mut mint = Mint::new(7);
        let (first, second) = (mint.session(), mint.session());
        assert!(first < second && first.to_string() < second.to_string());
        assert_eq!(SessionId::parse(&second.to_string()), Some(second));
        assert_eq!(SessionId::parse("+000000000000001"), None);
    }

    #[test]
    fn tokens_survive_the_way_through_the_kernel() {
        let token = Token { slot: 17, generation: u32::MAX };
        assert_eq!(Token::from_u64(token.to_u64()), token);
    }
}
