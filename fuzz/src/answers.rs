//! What every answer must be, whoever is answered.

use berth::api::Refusal;
use serde_json::Value;
use serde_json::value::RawValue;

const DATE: &str = "Sat, 21 Nov 2026 10:00:00 GMT";

/// The answer has one head and one problem document, and both say the same.
pub fn check_refusal(refusal: &Refusal) {
    assert!((400..=599).contains(&refusal.status), "{refusal:?}");
    let mut out = Vec::new();
    refusal.write(&mut out, true, false, DATE);
    let end = out.windows(4).position(|four| four == b"\r\n\r\n").expect("an end of the head") + 4;
    let (head, body) = out.split_at(end);
    let head = str::from_utf8(head).expect("a head in ASCII");
    assert!(head.starts_with(&format!("HTTP/1.1 {} ", refusal.status)), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    let problem: Value = serde_json::from_slice(body).expect("a problem document");
    assert_eq!(problem["status"], refusal.status);
    assert_eq!(problem["code"], refusal.code);
    assert_eq!(problem["detail"], *refusal.detail);

    let mut without_body = Vec::new();
    refusal.write(&mut without_body, true, true, DATE);
    assert_eq!(without_body, head.as_bytes(), "the answer to HEAD");
}

/// Valid JSON of any depth, and UTF-8.
#[track_caller]
pub fn assert_json(bytes: &[u8]) {
    if let Err(error) = serde_json::from_slice::<&RawValue>(bytes) {
        panic!("{error}: {}", String::from_utf8_lossy(bytes));
    }
}
