//! The settings of a schedule.

use crate::random::Random;
use berth::limits::{HeartbeatSettings, Settings};
use std::time::Duration;

/// Longer than any schedule, in virtual time.
const LONG: Duration = Duration::from_secs(400);

/// Whether a shadow may be dropped in a schedule: then its counter begins anew.
pub fn forgets(settings: &Settings) -> bool {
    let shadow = &settings.shadow;
    shadow.keep < LONG || shadow.max_offline < 10 || shadow.max_total_bytes < 1 << 20
}

/// Whether every event is remembered for as long as its shadow is.
pub fn remembers_all(settings: &Settings) -> bool {
    settings.shadow.history_events == 1000 && settings.shadow.history_bytes == 1 << 20 && !forgets(settings)
}

/// Small limits and short times, so that each of them is met.
pub fn settings(random: &mut Random) -> Settings {
    let mut settings = Settings::default();
    let seconds = |random: &mut Random, least: usize, most: usize| {
        Duration::from_millis(random.between(least * 1000, most * 1000) as u64)
    };
    let heartbeat = |random: &mut Random| HeartbeatSettings {
        interval: seconds(random, 2, 12),
        timeout: seconds(random, 1, 4),
    };
    settings.router.heartbeat = heartbeat(random);
    settings.router.hello_timeout = seconds(random, 1, 3);
    settings.router.max_pending = random.between(2, 5);
    settings.router.max_streams = random.between(1, 4);
    settings.stream.idle = seconds(random, 2, 6);
    settings.stream.resume = seconds(random, 1, 5);
    settings.router.max_queued_bytes = random.between(3_000, 120_000);
    settings.http.header_timeout = seconds(random, 1, 3);
    settings.http.body_timeout = seconds(random, 1, 3);
    settings.http.idle_timeout = seconds(random, 2, 6);
    settings.http.max_queued_bytes = random.between(3_000, 100_000);
    settings.http.fleet_window = random.between(1, 3);
    for websocket in [&mut settings.app, &mut settings.page] {
        websocket.heartbeat = heartbeat(random);
        websocket.handshake_timeout = seconds(random, 1, 3);
        websocket.max_pending = random.between(2, 4);
        websocket.max_subscriptions = random.between(2, 5);
        websocket.max_queued_bytes = random.between(3_000, 100_000);
    }
    settings.shadow.keep = *random.pick(&[
        Duration::ZERO,
        Duration::from_secs(3),
        Duration::from_secs(1000),
        Duration::from_secs(1000),
    ]);
    settings.shadow.max_offline = *random.pick(&[1, 100, 100]);
    settings.shadow.max_topics = random.between(1, 4);
    settings.shadow.max_bytes = random.between(200, 30_000);
    settings.shadow.max_total_bytes = *random.pick(&[2_000, 40_000, 1 << 28, 1 << 28]);
    settings.shadow.history_events = *random.pick(&[0, 3, 1000, 1000]);
    settings.shadow.history_bytes = *random.pick(&[2_000, 1 << 20, 1 << 20]);
    settings.max_buffered_bytes = *random.pick(&[20_000, 100_000, 1 << 28, 1 << 28, 1 << 28]);
    settings.queue_soft = seconds(random, 1, 4);
    settings.close_grace = seconds(random, 1, 2);
    settings.drain = Duration::from_millis(random.between(200, 3_000) as u64);
    for listen in [
        &mut settings.router.listen,
        &mut settings.http.listen,
        &mut settings.app.listen,
        &mut settings.page.listen,
    ] {
        listen.max_connections = random.between(2, 8);
        listen.max_per_ip = random.chance(20).then(|| random.between(1, 3));
    }
    settings
}
