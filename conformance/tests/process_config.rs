//! Contract section 7: the configuration, and how a bad one is refused.

use conformance::daemon::{Daemon, try_start};
use conformance::http::get;

const LISTENERS: [&str; 4] = ["router", "http", "websocket.app", "websocket.page"];

/// Asserts exit 2, nothing started, and a message with the file, the line, a column and `hint`.
#[track_caller]
fn refused(text: &str, line: usize, hint: &str) {
    let (status, stderr) = try_start(text).err().unwrap_or_else(|| panic!("started with {text:?}"));
    assert_eq!(status.code(), Some(2), "{text:?}: {stderr}");
    assert!(stderr.contains("berth.toml"), "no file for {text:?}: {stderr}");
    let column_follows = |mark: String| {
        stderr
            .match_indices(&mark)
            .any(|(at, _)| stderr[at + mark.len()..].starts_with(|c: char| c.is_ascii_digit() && c != '0'))
    };
    let marks = [format!(":{line}:"), format!("line {line}, column "), format!("line {line} column ")];
    assert!(marks.into_iter().any(column_follows), "no line {line} and column for {text:?}: {stderr}");
    assert!(stderr.contains(hint), "no {hint:?} for {text:?}: {stderr}");
}

#[test]
fn unknown_keys_are_refused_at_their_place() {
    refused("router.bund = \"127.0.0.1:0\"", 1, "bund");
    refused("\n\n  router.heartbeat.intervall_s = 3", 3, "intervall_s");
    refused("drain_s = 1\nfoo = 1", 2, "foo");
    refused("drain_s = 1\n\nfoo.bar = 1", 3, "foo");
    refused("websocket.bind = \"127.0.0.1:0\"", 1, "bind");
    refused("websocket.apps.max_pending = 1", 1, "apps");
    refused("http.heartbeat.interval_s = 1", 1, "heartbeat");
    refused("http.max_pending = 1", 1, "max_pending");
    refused("router.max_subscriptions = 1", 1, "max_subscriptions");
    refused("websocket.app.origins = []", 1, "origins");
    refused("router.handshake_timeout_s = 1", 1, "handshake_timeout_s");
}

#[test]
fn bad_syntax_is_refused_at_its_place() {
    refused("drain_s = 1\nlog.level = \"info\nclose_grace_s = 1", 2, "");
    refused("drain_s = 1\ndrain_s = 2", 2, "");
    refused("drain_s", 1, "");
    refused("drain_s = 1\n= 2", 2, "");
}

#[test]
fn bad_values_are_refused_at_their_place() {
    refused("\nlog.level = \"loud\"", 2, "info");
    refused("log.format = \"xml\"", 1, "logfmt");
    refused("log.level = 3", 1, "");
    refused("router.max_connections = \"many\"", 1, "");
    refused("router.max_connections = -1", 1, "");
    refused("router.max_connections = 1.5", 1, "");
    refused("drain_s = \"long\"", 1, "");
    refused("drain_s = -1", 1, "");
    refused("drain_s = nan", 1, "");
    refused("drain_s = inf", 1, "");
    refused("websocket.page.origins = \"https://example.org\"", 1, "");
    for listener in LISTENERS {
        refused(&format!("drain_s = 1\n{listener}.bind = \"127.0.0.1\""), 2, "");
        refused(&format!("{listener}.bind = 7000"), 1, "");
        refused(&format!("{listener}.bind = \"127.0.0.1:99999\""), 1, "");
        refused(&format!("{listener}.bind = []"), 1, "");
    }
}

#[test]
fn keepalive_seconds_are_whole_and_fit_the_kernel() {
    for listener in LISTENERS {
        for key in ["idle_s", "interval_s"] {
            refused(&format!("{listener}.keepalive.{key} = 1.5"), 1, key);
            refused(
                &format!("{listener}.keepalive.user_timeout_s = 200000\n{listener}.keepalive.{key} = 32768"),
                2,
                "32767",
            );
        }
        refused(
            &format!("{listener}.keepalive.count = 128\n{listener}.keepalive.user_timeout_s = 9999"),
            1,
            "127",
        );
    }
    Daemon::start("router.keepalive.idle_s = 32767\nrouter.keepalive.user_timeout_s = 40000");
}

#[test]
fn zero_is_refused_where_it_does_not_mean_off() {
    let mut keys: Vec<String> = [
        "router.heartbeat.interval_s",
        "router.heartbeat.timeout_s",
        "router.hello_timeout_s",
        "router.max_pending",
        "http.header_timeout_s",
        "http.body_timeout_s",
        "http.idle_timeout_s",
        "http.max_header_bytes",
        "http.max_body_bytes",
        "close_grace_s",
        "queue.soft_s",
        "drain_s",
        "memory.max_buffered_bytes",
        "shadow.max_offline",
        "shadow.max_topics",
        "shadow.max_bytes",
        "shadow.max_total_bytes",
    ]
    .map(str::to_owned)
    .into();
    for listener in LISTENERS {
        keys.push(format!("{listener}.max_connections"));
        keys.push(format!("{listener}.max_queued_bytes"));
        keys.extend(
            ["idle_s", "interval_s", "count", "user_timeout_s"]
                .map(|key| format!("{listener}.keepalive.{key}")),
        );
    }
    for socket in ["websocket.app", "websocket.page"] {
        let names = [
            "heartbeat.interval_s",
            "heartbeat.timeout_s",
            "handshake_timeout_s",
            "max_pending",
            "max_subscriptions",
            "max_message_bytes",
        ];
        keys.extend(names.map(|key| format!("{socket}.{key}")));
    }
    for key in keys {
        refused(&format!("\n{key} = 0"), 2, key.rsplit('.').next().expect("a name"));
    }
}

#[test]
fn zero_means_off_where_the_table_says_so() {
    let mut text = String::from("shadow.keep_s = 0\ncensus.log_every_s = 0\n");
    for listener in LISTENERS {
        text.push_str(&format!("{listener}.max_per_ip = 0\n{listener}.notsent_lowat_bytes = 0\n"));
    }
    Daemon::start(&text);
}

#[test]
fn seconds_may_be_fractions_or_whole() {
    Daemon::start(
        "router.hello_timeout_s = 0.25\nhttp.header_timeout_s = 1\nhttp.body_timeout_s = 2.5\nhttp.idle_timeout_s = 3\n\
         websocket.app.handshake_timeout_s = 0.5\nclose_grace_s = 0.1\nqueue.soft_s = 0.5\nshadow.keep_s = 0.5\n\
         drain_s = 0.5\ncensus.log_every_s = 0.5\nrouter.heartbeat.interval_s = 0.1",
    );
}

#[test]
fn numbers_at_the_edge_are_taken_or_refused() {
    let seconds =
        ["drain_s", "close_grace_s", "queue.soft_s", "shadow.keep_s", "router.heartbeat.interval_s"];
    let counts =
        ["router.max_connections", "router.max_queued_bytes", "shadow.max_total_bytes", "router.max_per_ip"];
    let cases = [
        (&seconds[..], &["1e300", "5e-324", "1e-9", "9223372036854775807", "-0.0"][..]),
        (&counts, &["9223372036854775807", "4294967296", "1"]),
    ];
    for (keys, values) in cases {
        for (key, value) in keys.iter().flat_map(|key| values.iter().map(move |value| (key, value))) {
            match try_start(&format!("{key} = {value}")) {
                Ok(daemon) => assert_eq!(get(daemon.http, "/healthz").status, 200, "{key} = {value}"),
                Err((status, stderr)) => assert_eq!(status.code(), Some(2), "{key} = {value}: {stderr}"),
            }
        }
    }
}

#[test]
fn every_key_of_the_table_is_taken_with_its_default() {
    let mut text = String::from(
        "router.hello_timeout_s = 5\nhttp.header_timeout_s = 5\nhttp.body_timeout_s = 30\nhttp.idle_timeout_s = 60\n\
         close_grace_s = 2\nqueue.soft_s = 10\nrouter.max_connections = 100000\nhttp.max_connections = 4096\n\
         router.max_pending = 64\nrouter.max_queued_bytes = 2097152\nhttp.max_queued_bytes = 4194304\n\
         memory.max_buffered_bytes = 268435456\nhttp.max_header_bytes = 16384\nhttp.max_body_bytes = 1048576\n\
         shadow.keep_s = 86400\nshadow.max_offline = 10000\nshadow.max_topics = 32\nshadow.max_bytes = 65536\n\
         shadow.max_total_bytes = 268435456\ndrain_s = 10\ncensus.log_every_s = 300\nlog.level = \"info\"\n\
         log.format = \"logfmt\"\nwebsocket.page.origins = []\n",
    );
    for listener in LISTENERS {
        text.push_str(&format!(
            "{listener}.keepalive.idle_s = 15\n{listener}.keepalive.interval_s = 15\n{listener}.keepalive.count = 4\n\
             {listener}.keepalive.user_timeout_s = 75\n{listener}.max_per_ip = 0\n{listener}.notsent_lowat_bytes = 16384\n"
        ));
    }
    for socket in ["websocket.app", "websocket.page"] {
        text.push_str(&format!(
            "{socket}.handshake_timeout_s = 5\n{socket}.max_connections = 50000\n{socket}.max_pending = 64\n\
             {socket}.max_subscriptions = 64\n{socket}.max_queued_bytes = 4194304\n{socket}.max_message_bytes = 65536\n"
        ));
    }
    for beating in ["router", "websocket.app", "websocket.page"] {
        text.push_str(&format!("{beating}.heartbeat.interval_s = 60\n{beating}.heartbeat.timeout_s = 20\n"));
    }
    Daemon::start(&text);
}

#[test]
fn what_a_later_version_brings_is_not_supported_yet() {
    let mut keys: Vec<(String, &str)> = [
        ("auth.secret_file", "\"/tmp/secret\""),
        ("auth.public_key_file", "\"/tmp/key.pem\""),
        ("http.token_file", "\"/tmp/token\""),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    for listener in LISTENERS {
        keys.push((format!("{listener}.tls.bind"), "\"127.0.0.1:0\""));
        for file in ["cert_file", "key_file", "client_ca_file"] {
            keys.push((format!("{listener}.tls.{file}"), "\"/tmp/tls.pem\""));
        }
    }
    for (key, value) in keys {
        refused(&format!("drain_s = 1\n{key} = {value}"), 2, "not supported yet");
    }
}
