//! Rules that bind several keys. Each is checked when all keys have been read, against defaults too.

use std::collections::HashMap;

use super::Fault;
use super::keys::MAX_USER_TIMEOUT_S;
use crate::limits::{ListenSettings, Settings};

/// The keys that the file gives, and where their values begin, in bytes.
pub type Given = HashMap<&'static str, usize>;

pub fn check(settings: &mut Settings, given: &Given, faults: &mut Vec<Fault>) {
    for (name, listen) in listeners(settings) {
        user_timeout(name, listen, given, faults);
    }
    same_port(settings, given, faults);
}

fn listeners(settings: &mut Settings) -> [(&'static str, &mut ListenSettings); 4] {
    [
        ("router", &mut settings.router.listen),
        ("http", &mut settings.http.listen),
        ("websocket.app", &mut settings.app.listen),
        ("websocket.page", &mut settings.page.listen),
    ]
}

/// TCP_USER_TIMEOUT overrides the keepalive count, so below idle + interval × count it would cut living peers
/// (SPEC section 2). Where it is not given it follows them.
fn user_timeout(name: &str, listen: &mut ListenSettings, given: &Given, faults: &mut Vec<Fault>) {
    let key = |last: &str| format!("{name}.keepalive.{last}");
    let least = u64::from(listen.keepalive_idle_s)
        + u64::from(listen.keepalive_interval_s) * u64::from(listen.keepalive_count);
    if let Some(&at) = given.get(key("user_timeout_s").as_str()) {
        if u64::from(listen.user_timeout_s) < least {
            let text = format!(
                "{} is below idle_s + interval_s × count; at least {least} would be right",
                listen.user_timeout_s
            );
            faults.push(Fault { at, name: key("user_timeout_s"), text });
        }
    } else if let Some(follows) = u32::try_from(least).ok().filter(|_| least <= MAX_USER_TIMEOUT_S) {
        listen.user_timeout_s = follows;
    } else {
        let keys = ["idle_s", "interval_s", "count"].map(key);
        let at = keys.iter().filter_map(|key| given.get(key.as_str())).max().copied().unwrap_or(0);
        let text = format!(
            "idle_s + interval_s × count is {least} s; at most {MAX_USER_TIMEOUT_S} s would be right"
        );
        faults.push(Fault { at, name: format!("{name}.keepalive"), text });
    }
}

/// Two listeners cannot share a port of one address; port 0 picks a free one for each.
fn same_port(settings: &mut Settings, given: &Given, faults: &mut Vec<Fault>) {
    let mut seen = HashMap::new();
    for (name, listen) in listeners(settings) {
        for address in listen.bind.iter().filter(|address| address.port() != 0) {
            let Some(other) = seen.insert((address.ip().to_canonical(), address.port()), name) else {
                continue;
            };
            // The fault stands where the file says it: at the later listener, or at the other if that has its default.
            let (name, other) = if given.contains_key(format!("{name}.bind").as_str()) {
                (name, other)
            } else {
                (other, name)
            };
            let key = format!("{name}.bind");
            let at = given.get(key.as_str()).copied().unwrap_or(0);
            let text = format!("{address} is already bound by {other}.bind; another port would be right");
            faults.push(Fault { at, name: key, text });
        }
    }
}
