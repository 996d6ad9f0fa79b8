use super::*;
use serde_json::json;

#[test]
fn a_whole_census() {
    let census = json!({
        "uptime_s": 93_784.5,
        "memory": {"rss_bytes": 12_902_400, "live_bytes": 1000, "allocated_from_kernel_bytes": 5_368_709_120_u64,
                   "fragmentation_bytes": -2048, "live_allocations": 77},
        "classes": {
            "router": {"live": 200, "opened": 260, "unbound": 60, "heap_bytes": 99_984},
            "timer": {"live": 3, "opened": 5, "unbound": 1, "heap_bytes": 0},
            "log": {"heap_bytes": 1536},
            "later": {"live": 1},
        },
        "unbound_by_reason": {"router": {"peer_closed": 58, "takeover": 2, "kicked": 0}, "http": {}},
        "dropped": {"late_replies": 3, "log_lines": 0},
        "buffered_bytes": 12,
        "loop": {"turns": 72, "longest_ms": 15.703983, "over_50_ms": 0},
        "audit": {"ok": false, "dangling": ["timer 3.1 of connection 9.1"]},
        "sockets": {"kernel": 201, "table": 200},
        "unbind_imbalances": 0,
        "verdict": {"state": "leaking", "says": "router: 1.2 KiB a minute for 9 min, without routers"},
    });
    let expected = "\
LEAKING: router: 1.2 KiB a minute for 9 min, without routers

memory                                      bytes
resident                     12.3 MiB    12902400
live                           1000 B        1000
allocated from kernel         5.0 GiB  5368709120
fragmentation                -2.0 KiB       -2048
in queues and half messages      12 B          12
live allocations                               77

class            live  opened  unbound      heap  bytes
router            200     260       60  97.6 KiB  99984
http                -       -        -         -      -
app                 -       -        -         -      -
page                -       -        -         -      -
listener            -       -        -         -      -
pending_command     -       -        -         -      -
subscription        -       -        -         -      -
stream              -       -        -         -      -
timer               3       5        1       0 B      0  opened - unbound is not live!
shadow              -       -        -         -      -
queued_frame        -       -        -         -      -
log                 -       -        -   1.5 KiB   1536
other               -       -        -         -      -
later               1       -        -         -      -

router ended by  peer_closed 58, takeover 2
up for           1 d 2 h
loop             72 turns, the longest 15.7 ms, 0 over 50 ms
dropped          late_replies 3
sockets          201 by the kernel, 200 by the table
audit            FAILED: entries that name a connection that is gone
                 timer 3.1 of connection 9.1
";
    assert_eq!(render(&census), expected);
}

#[test]
fn what_is_missing_is_a_dash_and_never_a_panic() {
    for census in [
        json!({}),
        json!(null),
        json!([1]),
        json!({"memory": null, "classes": 3, "verdict": {"state": "flat"}}),
    ] {
        let text = render(&census);
        assert!(text.contains("up for           -") && text.contains("\nother"), "{text}");
    }
    assert!(render(&json!({})).starts_with("no verdict in this census\n"));
    let unasked = render(&json!({"sockets": {"kernel": null, "table": 4}, "unbind_imbalances": 2}));
    assert!(unasked.contains("4 by the table; the kernel could not be asked"), "{unasked}");
    assert!(unasked.contains("2 connections whose memory was not back at 0"), "{unasked}");
}

#[test]
fn times_and_sizes_for_people() {
    let times =
        [(0.4, "0 s"), (59.9, "59 s"), (61.0, "1 min 1 s"), (3600.0, "1 h 0 min"), (90_000.0, "1 d 1 h")];
    for (seconds, expected) in times {
        assert_eq!(humane_time(seconds), expected);
    }
    for (bytes, expected) in
        [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 30, "1.0 GiB"), (1_u64 << 40, "1.0 TiB")]
    {
        assert_eq!(humane_bytes(&json!(bytes)), expected);
    }
}

#[test]
fn nothing_reaches_the_terminal_as_a_command() {
    let text =
        render(&json!({"verdict": {"state": "flat", "says": "a\x1b[2Jb\nc"}, "classes": {"\x07": {}}}));
    assert!(text.starts_with("FLAT: a\u{fffd}[2Jb\u{fffd}c\n") && !text.contains('\x07'), "{text}");
}
