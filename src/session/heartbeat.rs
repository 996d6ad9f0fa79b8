//! Heartbeats, the same for routers and WebSocket clients (SPEC section 1, Heartbeat; section 4).
//!
//! Silence means that no byte was received. After `interval` of it comes a PING; after `timeout` more the peer is dead,
//! unless it has acknowledged bytes since the PING was queued: then it is alive but slow, and is pinged again. The PING's
//! own bytes do not count as such a sign: the kernel of a frozen process acknowledges them too.

use crate::clock::Time;
use crate::limits::HeartbeatSettings;

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

    /// What is due at `now`. `acked` is the number of bytes that the peer has acknowledged so far, `ping_bytes` the length
    /// of a PING. Whoever gets [`Beat::Ping`] queues one.
    pub fn beat(
        &mut self,
        now: Time,
        settings: &HeartbeatSettings,
        ping_bytes: u64,
        acked: impl FnOnce() -> Option<u64>,
    ) -> Beat {
        if now < self.deadline(settings) {
            return Beat::Nothing;
        }
        let acked = acked();
        if let Some(ping) = self.ping {
            let progress =
                acked.zip(ping.acked).is_some_and(|(now, then)| now.saturating_sub(then) > ping_bytes);
            if !progress {
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

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn silence_is_pinged_and_then_dead() {
        let mut heartbeat = Heartbeat::new(at(0));
        assert_eq!(heartbeat.beat(at(59), &SETTINGS, 12, || Some(0)), Beat::Nothing);
        assert_eq!(heartbeat.beat(at(60), &SETTINGS, 12, || Some(100)), Beat::Ping);
        assert_eq!(heartbeat.deadline(&SETTINGS), at(80));
        assert_eq!(heartbeat.beat(at(80), &SETTINGS, 12, || Some(112)), Beat::Dead);
    }

    #[test]
    fn any_byte_is_life() {
        let mut heartbeat = Heartbeat::new(at(0));
        heartbeat.beat(at(60), &SETTINGS, 12, || Some(0));
        heartbeat.heard(at(79));
        assert_eq!(heartbeat.deadline(&SETTINGS), at(139));
    }

    #[test]
    fn a_slow_taker_is_pinged_again() {
        let mut heartbeat = Heartbeat::new(at(0));
        heartbeat.beat(at(60), &SETTINGS, 12, || Some(0));
        assert_eq!(heartbeat.beat(at(80), &SETTINGS, 12, || Some(5000)), Beat::Ping);
        assert_eq!(heartbeat.beat(at(100), &SETTINGS, 12, || Some(5000)), Beat::Dead);
    }
}
