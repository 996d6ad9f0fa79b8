use super::*;
use serde_json::json;
use std::collections::BTreeMap;

/// Name and labels as they stand in the line, and the value.
type Samples = BTreeMap<String, f64>;

/// Reads an exposition as strictly as `promtool check metrics` does, and panics at what it would complain about.
fn parse(text: &str) -> Samples {
    let (mut samples, mut families) = (Samples::new(), Vec::new());
    assert!(text.is_empty() || text.ends_with('\n'));
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect(line);
        assert!(!help.is_empty() && !help.contains('\\'), "{line}");
        assert!(!families.contains(&name), "{name} stands in two places");
        families.push(name);
        let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).expect("TYPE behind HELP");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        check_name(name);
        let before = samples.len();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect(line);
            let labels = series.strip_prefix(name).expect(line);
            assert!(labels.is_empty() || check_labels(labels).is_some(), "{line}");
            let value: f64 = value.parse().expect(line);
            assert!(value.is_finite() && (value >= 0.0 || kind != "counter"), "{line}");
            assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
        }
        assert!(samples.len() > before, "{name} has no sample");
    }
    samples
}

fn check_name(name: &str) {
    assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
    let not_base = ["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "m", "h", "d", "milliseconds"];
    let types = ["gauge", "counter", "count", "sum", "bucket", "info"];
    for word in name.strip_prefix("berth_").expect(name).split('_') {
        assert!(!word.is_empty() && !not_base.contains(&word) && !types.contains(&word), "{name}: {word}");
    }
}

/// `{name="value",…}`, with `\\`, `\"` and `\n` the only escapes.
fn check_labels(labels: &str) -> Option<()> {
    let mut rest = labels.strip_prefix('{')?.strip_suffix('}')?;
    loop {
        let (name, value) = rest.split_once("=\"")?;
        (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase())).then_some(())?;
        let mut bytes = value.bytes().enumerate();
        let end = loop {
            match bytes.next()? {
                (_, b'\\') => matches!(bytes.next()?.1, b'\\' | b'"' | b'n').then_some(())?,
                (at, b'"') => break at,
                _ => {}
            }
        };
        rest = &value[end + 1..];
        if rest.is_empty() {
            return Some(());
        }
        rest = rest.strip_prefix(',')?;
    }
}

fn census() -> Value {
    json!({
        "uptime_s": 3600.25,
        "memory": {"rss_bytes": 40, "live_bytes": 20, "allocated_from_kernel_bytes": 30, "fragmentation_bytes": 10,
                   "live_allocations": 7},
        "classes": {"router": {"live": 200, "opened": 260, "unbound": 60, "heap_bytes": 12},
                    "log": {"heap_bytes": 8}},
        "unbound_by_reason": {"router": {"peer_closed": 58, "takeover": 2}, "http": {}},
        "dropped": {"late_replies": 3, "log_lines": 0},
        "buffered_bytes": 5,
        "loop": {"turns": 9_007_199_254_740_993_u64, "longest_ms": 12.5, "over_50_ms": 1},
        "audit": {"ok": true, "dangling": [], "at_s": 1.0},
        "unbind_imbalances": 4,
        "verdict": {"state": "flat", "says": "live bytes have not grown"},
    })
}

#[test]
fn everything_that_the_census_knows() {
    let text = render(&census());
    let samples = parse(&text);
    for (series, value) in [
        ("berth_uptime_seconds", 3600.25),
        (r#"berth_memory_bytes{kind="rss"}"#, 40.0),
        (r#"berth_memory_bytes{kind="live"}"#, 20.0),
        (r#"berth_memory_bytes{kind="allocated_from_kernel"}"#, 30.0),
        (r#"berth_memory_bytes{kind="fragmentation"}"#, 10.0),
        ("berth_live_allocations", 7.0),
        ("berth_buffered_bytes", 5.0),
        (r#"berth_live{class="router"}"#, 200.0),
        (r#"berth_opened_total{class="router"}"#, 260.0),
        (r#"berth_unbound_total{class="router"}"#, 60.0),
        (r#"berth_heap_bytes{class="router"}"#, 12.0),
        (r#"berth_heap_bytes{class="log"}"#, 8.0),
        (r#"berth_unbound_by_reason_total{class="router",reason="takeover"}"#, 2.0),
        (r#"berth_dropped_total{what="late_replies"}"#, 3.0),
        ("berth_unbind_imbalance_total", 4.0),
        ("berth_loop_longest_seconds", 0.0125),
        ("berth_loop_long_turns_total", 1.0),
        ("berth_audit_ok", 1.0),
        (r#"berth_verdict{state="flat"}"#, 1.0),
        (r#"berth_verdict{state="leaking"}"#, 0.0),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
    assert!(!samples.contains_key(r#"berth_live{class="log"}"#));
    assert_eq!(samples.keys().filter(|series| series.starts_with("berth_verdict")).count(), State::ALL.len());
    assert!(text.contains("berth_loop_turns_total 9007199254740993\n"), "whole numbers lose no digit");
}

#[test]
fn what_is_missing_or_null_has_no_sample() {
    let imbalances = BTreeMap::from([("berth_unbind_imbalance_total".to_owned(), 0.0)]);
    assert_eq!(parse(&render(&json!({}))), imbalances);
    assert_eq!(parse(&render(&json!(null))), imbalances);
    let mut census = census();
    for value in census.as_object_mut().unwrap().values_mut() {
        *value = Value::Null;
    }
    assert_eq!(parse(&render(&census)), BTreeMap::new());
    let samples = parse(&render(&json!({"classes": {"router": {"live": null, "opened": 3}}})));
    assert_eq!(samples.get(r#"berth_opened_total{class="router"}"#), Some(&3.0));
    assert!(!samples.contains_key(r#"berth_live{class="router"}"#));
}

#[test]
fn labels_are_escaped() {
    let text = render(&json!({"dropped": {"a\"b\\c\nd,}": 1}}));
    assert!(text.contains(r#"berth_dropped_total{what="a\"b\\c\nd,}"} 1"#), "{text}");
    assert_eq!(parse(&text).len(), 2);
}
