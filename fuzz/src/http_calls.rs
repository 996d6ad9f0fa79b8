//! The bodies of calls that are JSON: fleet commands and events that a backend publishes.

use super::answers::check_refusal;
use berth::api::events::{Publication, publication};
use berth::api::fleet::{FleetCall, Routers};
use berth::id;
use serde_json::Value;
use serde_json::value::RawValue;

pub fn check(data: &[u8]) {
    match FleetCall::parse(data) {
        Err(refusal) => check_refusal(&refusal),
        Ok(call) => {
            if let Some(said) = values(data) {
                check_fleet(&said, &call);
            }
        }
    }
    match publication(data) {
        Err(refusal) => check_refusal(&refusal),
        Ok(event) => {
            assert!(id::is_id(&event.router) && id::is_topic(&event.topic));
            if let Some(said) = values(data) {
                check_event(&said, &event);
            }
        }
    }
}

/// The same body, read by another parser; none when that cannot hold it: a payload that is passed on unread may be deeper
/// than it can go, and have larger numbers.
fn values(data: &[u8]) -> Option<Value> {
    assert!(serde_json::from_slice::<&RawValue>(data).is_ok(), "what was taken is not JSON");
    serde_json::from_slice(data).ok()
}

fn check_fleet(said: &Value, call: &FleetCall<'_>) {
    check_payload(said, &call.body, call.json);
    assert_eq!(
        said.get("timeout_ms").and_then(Value::as_u64).unwrap_or(1000),
        call.timeout.as_millis() as u64
    );
    match (&call.routers, &said["routers"]) {
        (Routers::All, Value::String(star)) => assert_eq!(star, "*"),
        (Routers::These(names), Value::Array(list)) => {
            let mut once: Vec<&str> = Vec::new();
            for name in list.iter().map(|name| name.as_str().expect("a string")) {
                if !once.contains(&name) {
                    once.push(name);
                }
            }
            let taken: Vec<&str> = (0..names.len()).filter_map(|index| names.get(index)).collect();
            assert_eq!(taken, once, "each once, in the order of the call");
        }
        (routers, said) => panic!("{routers:?} out of {said}"),
    }
}

fn check_event(said: &Value, event: &Publication<'_>) {
    assert_eq!(
        (said["router"].as_str(), said["topic"].as_str()),
        (Some(&*event.router), Some(&*event.topic))
    );
    assert_eq!(said.get("retain").and_then(Value::as_bool).unwrap_or(false), event.retain);
    check_payload(said, &event.body, event.json);
}

fn check_payload(said: &Value, body: &[u8], json: bool) {
    assert_eq!(said.get("body").is_some(), json);
    if json {
        let value: Value = serde_json::from_slice(body).expect("JSON as it stood");
        assert_eq!(said["body"], value);
    } else if !body.is_empty() {
        assert!(said["body_base64"].is_string());
    }
}
