//! Calls as clients send them: against serde_json's own values, and that each has an answer that is JSON.

use super::answers::assert_json;
use berth::limits::MAX_BATCH;
use berth::proto::jsonrpc::codes::{INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR};
use berth::proto::jsonrpc::{
    Call, CommandParams, Incoming, Refusal, RoutersParams, RpcError, SubscribeParams, UnsubscribeParams,
    body_bytes, params, parse, write_error, write_result,
};
use serde_json::Value;
use serde_json::value::RawValue;

pub fn check(data: &[u8]) {
    // The WebSocket decoder gives UTF-8 and nothing else.
    let Ok(text) = str::from_utf8(data) else { return };
    let is_json = serde_json::from_str::<&RawValue>(text).is_ok();
    // `None`: not JSON, or deeper or with larger numbers than a Value can be.
    let value = serde_json::from_str::<Value>(text).ok();
    match parse(text) {
        Incoming::One(Ok(call)) => {
            assert!(is_json);
            check_call(&call, value.as_ref());
        }
        Incoming::One(Err(refusal)) => {
            // Half of a surrogate pair, escaped, is JSON by its grammar; but a member's name with one is no text.
            let may_be_no_text = text.contains("\\u");
            assert!(is_json || refusal.code == PARSE_ERROR, "{refusal:?}");
            assert!(!is_json || may_be_no_text || refusal.code == INVALID_REQUEST, "{refusal:?}");
            assert!(value.is_none_or(|value| !is_request(text, &value)), "{refusal:?}");
            check_refusal(&refusal);
        }
        Incoming::Batch(calls) => {
            assert!(is_json && (1..=MAX_BATCH).contains(&calls.len()));
            let elements = value.as_ref().map(|value| value.as_array().expect("a batch is an array"));
            assert!(elements.is_none_or(|elements| elements.len() == calls.len()));
            for (index, call) in calls.iter().enumerate() {
                match call {
                    Ok(call) => check_call(call, elements.map(|elements| &elements[index])),
                    Err(refusal) => check_refusal(refusal),
                }
            }
        }
    }
}

/// Surely a request: no member stands twice in so few quotation marks, and the id is short.
fn is_request(text: &str, value: &Value) -> bool {
    let Some(members) = value.as_object() else { return false };
    let known = |name: &&String| ["jsonrpc", "id", "method"].contains(&name.as_str());
    text.matches("\":").count() == 3
        && members.len() == 3
        && members.keys().filter(known).count() == 3
        && !text.contains('\\')
        && text.len() < 200
        && value["jsonrpc"] == "2.0"
        && value["method"].is_string()
        && (value["id"].is_string() || value["id"].is_number() || value["id"].is_null())
}

fn check_call(call: &Call<'_>, value: Option<&Value>) {
    if let Some(value) = value {
        assert_eq!(value["jsonrpc"], "2.0");
        assert_eq!(value["method"], *call.method);
        assert_eq!(call.id.is_some(), value.get("id").is_some());
        assert_eq!(call.params.is_some(), value.get("params").is_some());
        let params =
            call.params.map(|params| serde_json::from_str::<Value>(params.get()).expect("read before"));
        assert_eq!(params.as_ref(), value.get("params"));
    }
    let id = call.id.map_or("null", RawValue::get);
    assert!(!id.starts_with(['{', '[', 't', 'f']));
    let mut answer = Vec::new();
    write_result(&mut answer, id, b"true");
    check_answer(&answer, id);

    check_params(id, params::<SubscribeParams<'_>>(call.params).err());
    check_params(id, params::<UnsubscribeParams>(call.params).err());
    check_params(id, params::<RoutersParams<'_>>(call.params).err());
    let command = params::<CommandParams<'_>>(call.params);
    if let Ok(command) = &command
        && let Ok((body, json)) = body_bytes(command.body, command.body_base64.as_deref())
    {
        assert_eq!(json, command.body.is_some());
        if json {
            assert_json(&body);
        }
    }
    check_params(id, command.err());
}

fn check_params(id: &str, error: Option<String>) {
    let Some(detail) = error else { return };
    assert!(!detail.is_empty());
    let mut answer = Vec::new();
    let error = RpcError { detail: Some(&detail), sent: Some(false), ..RpcError::new(INVALID_PARAMS) };
    write_error(&mut answer, id, &error);
    check_answer(&answer, id);
}

fn check_refusal(refusal: &Refusal<'_>) {
    assert!([PARSE_ERROR, INVALID_REQUEST].contains(&refusal.code));
    assert!(refusal.code != PARSE_ERROR || refusal.id.is_none());
    let mut answer = Vec::new();
    write_error(&mut answer, refusal.id(), &refusal.error());
    check_answer(&answer, refusal.id());
}

/// One JSON object that carries the id as it was sent.
fn check_answer(answer: &[u8], id: &str) {
    assert_json(answer);
    let text = str::from_utf8(answer).expect("JSON is UTF-8");
    assert!(text.starts_with(&format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},")), "{text}");
    if let (Ok(answer), Ok(id)) = (serde_json::from_str::<Value>(text), serde_json::from_str::<Value>(id)) {
        assert_eq!(answer["id"], id);
        assert!(answer["result"].is_boolean() != answer["error"]["data"]["code"].is_string());
    }
}
