//! Heartbeats, the same for routers and WebSocket clients (SPEC section 1, Heartbeat; section 4).
//!
//! Silence means that no byte was received. After `interval` of it comes a PING; after `timeout` more the peer is dead,
//! unless it has acknowledged bytes since the PING was queued: then it is alive but slow, and is pinged again. The PING's
//! own bytes do not count as such a sign: the kernel of a frozen process acknowledges them too.
//!
//! A slow reader acknowledges in lumps, and reads on what its kernel has long acknowledged, with the PING behind it. So while
//! a queue trickles, and for [`SLOW_READER_GRACE`] after, no lump is no proof, provided that the host still answers.

use crate::clock::Time;
use crate::limits::{HeartbeatSettings, SLOW_READER_GRACE};

#[derive(Debug)]
pub struct Heartbeat {
    last_heard: Time,
    ping: Option<Ping>,
}

#[derive(Clone, Copy, Debug)]
struct Ping {
    at: Time,
    /// Bytes that the peer had acknowledged when it was queued; `None` where the socket does not tell.
    acked: Option<u64>,
}

/// What the peer's host has acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Acks {
    /// Bytes since the connection began.
    pub bytes: u64,
    /// It no longer answers what the kernel sends again.
    pub host_is_silent: bool,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    Nothing,
    Ping,
    Dead,
}

impl Heartbeat {
    pub fn new(now: Time) -> Self {
        Self { last_heard: now, ping: None }
    }

    /// Any byte is a sign of life.
    pub fn heard(&mut self, now: Time) {
        self.last_heard = now;
        self.ping = None;
    }

    pub fn deadline(&self, settings: &HeartbeatSettings) -> Time {
        match self.ping {
            None => self.last_heard + settings.interval,
            Some(ping) => ping.at + settings.timeout,
        }
    }

    /// What is due at `now`. `acks` tells what the peer has acknowledged so far, `ping_bytes` is the length of a PING, and
    /// `trickled_at` when the socket last took bytes that it could not take at once. Whoever gets [`Beat::Ping`] queues one.
    pub fn beat(
        &mut self,
        now: Time,
        settings: &HeartbeatSettings,
        ping_bytes: u64,
        trickled_at: Option<Time>,
        acks: impl FnOnce() -> Option<Acks>,
    ) -> Beat {
        if now < self.deadline(settings) {
            return Beat::Nothing;
        }
        let acks = acks();
        let acked = acks.map(|acks| acks.bytes);
        if let Some(ping) = self.ping {
            let progress =
                acked.zip(ping.acked).is_some_and(|(now, then)| now.saturating_sub(then) > ping_bytes);
            let may_be_slow = trickled_at.is_some_and(|at| now < at + SLOW_READER_GRACE);
            let is_slow = may_be_slow && acks.is_some_and(|acks| !acks.host_is_silent);
            if !progress && !is_slow {
                return Beat::Dead;
            }
        }
        self.ping = Some(Ping { at: now, acked });
        Beat::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SETTINGS: HeartbeatSettings =
        HeartbeatSettings { interval: Duration::from_secs(60), timeout: Duration::from_secs(20) };

    /// So many bytes acknowledged, the last of them just now.
    fn acked(bytes: u64) -> impl FnOnce() -> Option<Acks> {
        move || Some(Acks { bytes, host_is_silent: false })
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn silence_is_pinged_and_then_dead() {
        let mut heartbeat = Heartbeat::new(at(0));
        assert_eq!(heartbeat.beat(at(59), &SETTINGS, 12, None, acked(0)), Beat::Nothing);
        assert_eq!(heartbeat.beat(at(60), &SETTINGS, 12, None, acked(100)), Beat::Ping);
        assert_eq!(heartbeat.deadline(&SETTINGS), at(80));
        assert_eq!(heartbeat.beat(at(80), &SETTINGS, 12, None, acked(112)), Beat::Dead);
    }

    #[test]
    fn any_byte_is_life() {
        let mut heartbeat = Heartbeat::new(at(0));
        heartbeat.beat(at(60), &SETTINGS, 12, None, acked(0));
        heartbeat.heard(at(79));
        assert_eq!(heartbeat.deadline(&SETTINGS), at(139));
    }

    #[test]
    fn a_slow_taker_is_pinged_again() {
        let mut heartbeat = Heartbeat::new(at(0));
        heartbeat.beat(at(60), &SETTINGS, 12, None, acked(0));
        assert_eq!(heartbeat.beat(at(80), &SETTINGS, 12, None, acked(5000)), Beat::Ping);
        assert_eq!(heartbeat.beat(at(100), &SETTINGS, 12, None, acked(5000)), Beat::Dead);
    }

    #[test]
    fn a_slow_reader_has_time_for_what_its_kernel_has_taken() {
        let settings =
            HeartbeatSettings { interval: Duration::from_secs(1), timeout: Duration::from_secs(1) };
        let beat = |heartbeat: &mut Heartbeat, seconds, acks| {
            heartbeat.beat(at(seconds), &settings, 12, Some(at(2)), move || Some(acks))
        };
        let lively = Acks { bytes: 100_000, host_is_silent: false };
        let mut heartbeat = Heartbeat::new(at(0));
        for seconds in 1..=6 {
            assert_eq!(beat(&mut heartbeat, seconds, lively), Beat::Ping, "{seconds}");
        }
        assert_eq!(beat(&mut heartbeat, 7, lively), Beat::Dead);
        let mut heartbeat = Heartbeat::new(at(0));
        assert_eq!(beat(&mut heartbeat, 1, lively), Beat::Ping);
        let gone = Acks { host_is_silent: true, ..lively };
        assert_eq!(beat(&mut heartbeat, 2, gone), Beat::Dead);
    }
}
