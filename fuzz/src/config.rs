//! The configuration file: settings that can be used, or faults with a place.

use berth::limits::{ListenSettings, Settings};
use berth::ops::config::{self, ConfigError};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

/// What a pipe takes without a reader; no file worth inventing is longer.
const MAX_BYTES: usize = 65_536;

pub fn check(data: &[u8]) {
    if data.len() > MAX_BYTES {
        return;
    }
    match load(data) {
        Ok(settings) => {
            check_settings(&settings);
            let commented = [data, b"\n# a comment"].concat();
            if commented.len() <= MAX_BYTES {
                assert_eq!(load(&commented).as_ref(), Ok(&settings));
            }
        }
        Err(faults) => check_faults(data, &faults),
    }
}

/// Through the very function that the daemon calls, with a pipe in place of a file.
fn load(data: &[u8]) -> Result<Settings, String> {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(data).expect("a pipe has room");
    drop(writer);
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    let name = format!("{path}:");
    // Without the path, which differs from run to run.
    let places = |error: ConfigError| {
        let lines = error.to_string();
        lines
            .split('\n')
            .map(|line| line.strip_prefix(&name).expect("the file's name").to_owned() + "\n")
            .collect()
    };
    config::load(Some(Path::new(&path))).map_err(places)
}

fn check_settings(settings: &Settings) {
    for listen in
        [&settings.router.listen, &settings.http.listen, &settings.app.listen, &settings.page.listen]
    {
        check_listener(listen);
    }
    assert!(settings.app.origins.is_empty());
    assert!(settings.page.origins.iter().all(|origin| origin.contains("://") && !origin.ends_with('/')));
    for bytes in [settings.max_buffered_bytes, settings.http.max_header_bytes, settings.app.max_message_bytes]
    {
        assert!(bytes > 0, "0 is not 'off' here");
    }
    for time in
        [settings.router.heartbeat.interval, settings.http.body_timeout, settings.queue_soft, settings.drain]
    {
        assert!(!time.is_zero());
    }
}

fn check_listener(listen: &ListenSettings) {
    assert!(!listen.bind.is_empty());
    assert!(
        listen.bind.iter().all(|address| address.ip().to_canonical().is_loopback()),
        "open mode, off loopback"
    );
    let [idle, interval, count, user_timeout] =
        [listen.keepalive_idle_s, listen.keepalive_interval_s, listen.keepalive_count, listen.user_timeout_s]
            .map(u64::from);
    assert!(idle > 0 && interval > 0 && count > 0 && user_timeout >= idle + interval * count);
    assert!(user_timeout * 1000 <= i32::MAX as u64, "more than TCP_USER_TIMEOUT takes");
    assert!(
        listen.max_connections > 0 && listen.max_per_ip != Some(0) && listen.notsent_lowat_bytes != Some(0)
    );
}

/// Each on a line of its own, with a place that is in the file, in the order of the places.
fn check_faults(data: &[u8], faults: &str) {
    let text = String::from_utf8_lossy(data);
    let lines: Vec<&str> = text.split('\n').collect();
    let mut before = (1, 1);
    for fault in faults.lines() {
        let mut parts = fault.splitn(3, ':');
        let mut number =
            || parts.next().and_then(|part| part.parse::<usize>().ok()).expect("line and column");
        let place = (number(), number());
        let line = lines.get(place.0 - 1).unwrap_or_else(|| panic!("no such line: {fault}"));
        assert!((1..=line.chars().count() + 1).contains(&place.1), "no such column: {fault}");
        assert!(place >= before, "not in order: {faults}");
        assert!(parts.next().is_some_and(|text| text.starts_with(' ') && text.len() > 1), "no text: {fault}");
        before = place;
    }
}
