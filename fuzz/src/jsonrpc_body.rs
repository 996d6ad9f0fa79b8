//! Payloads of routers, with and without the JSON flag: what stands around them stays JSON, and they come back.

use super::answers::assert_json;
use berth::proto::jsonrpc::{
    Body, CommandParams, EventParams, Origin, RpcError, body_bytes, body_of, by_name, codes, flatten_lines,
    write_body_member, write_error, write_event,
};
use serde_json::Value;
use serde_json::value::RawValue;

pub fn check(data: &[u8]) {
    let is_json = serde_json::from_slice::<&RawValue>(data).is_ok();
    for flag in [true, false] {
        let body = body_of(data, flag);
        assert_eq!(body, if flag && is_json { Body::Json(data) } else { Body::Base64(data) });
        check_member(data, body);
        check_event(body);
        check_error(body);
    }
    if is_json {
        check_lines(data);
    }
    if let Ok(text) = str::from_utf8(data) {
        check_base64(text);
    }
}

/// Among the parameters of a command, out of which it must come back.
fn check_member(data: &[u8], body: Body<'_>) {
    let mut params = b"{\"router\":\"r\",".to_vec();
    write_body_member(&mut params, body);
    params.extend_from_slice(b",\"name\":\"n\"}");
    let params = str::from_utf8(&params).expect("JSON is UTF-8");
    let params: CommandParams<'_> = by_name(params).expect("the parameters of a command");
    let (read, json) = body_bytes(params.body, params.body_base64.as_deref()).expect("one of the two");
    assert_eq!(json, matches!(body, Body::Json(_)));
    // White space around a JSON value is no part of it.
    assert_eq!(*read, *if json { data.trim_ascii() } else { data });
}

fn check_event(body: Body<'_>) {
    let cases =
        [(None, Origin::Live, 3), (Some(u64::MAX), Origin::Retained, 5), (Some(1), Origin::Replayed, 5)];
    for (seq, origin, members) in cases {
        let event = EventParams { router: "hub-1", topic: "a/b", seq, body, origin };
        let mut out = Vec::new();
        write_event(&mut out, &event);
        assert_json(&out);
        assert!(
            (out.len()..=out.len() + 43).contains(&event.notification_len()),
            "one allocation, and tight"
        );
        if let Ok(written) = serde_json::from_slice::<Value>(&out) {
            assert_eq!((&written["method"], &written["params"]["topic"]), (&"event".into(), &"a/b".into()));
            assert_eq!(written["params"].as_object().map(|params| params.len()), Some(members));
        }
    }
}

/// The error of a router, in a batch with another answer.
fn check_error(body: Body<'_>) {
    let mut out = b"[".to_vec();
    let error = RpcError { body: Some(body), sent: Some(true), ..RpcError::new(codes::ROUTER_ERROR) };
    write_error(&mut out, "\"id\"", &error);
    out.push(b',');
    write_error(&mut out, "null", &error);
    out.push(b']');
    assert_json(&out);
}

/// On one line it is of the same length and says the same.
fn check_lines(json: &[u8]) {
    let mut flat = json.to_vec();
    flatten_lines(&mut flat);
    assert!(flat.len() == json.len() && !flat.contains(&b'\n') && !flat.contains(&b'\r'));
    assert_json(&flat);
    assert_eq!(serde_json::from_slice::<Value>(&flat).ok(), serde_json::from_slice::<Value>(json).ok());
}

/// What is accepted as base64 is the one way to write those bytes.
fn check_base64(text: &str) {
    if let Ok((bytes, json)) = body_bytes(None, Some(text)) {
        let mut member = Vec::new();
        write_body_member(&mut member, Body::Base64(&bytes));
        assert_eq!(member, format!("\"body_base64\":\"{text}\"").into_bytes());
        assert!(!json);
    }
}
