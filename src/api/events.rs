//! Events for backends: what a watcher asks for, and what a publisher sends.

use super::Refusal;
use super::query::Query;
use crate::id::{self, EventId, PRESENCE};
use crate::limits::MAX_MESSAGE_BYTES;
use crate::proto::http::Head;
use crate::proto::jsonrpc::{PublishParams, body_bytes, by_name};
use std::borrow::Cow;

/// Which events a caller watches; `None` is `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchCall<'b> {
    pub router: Option<Cow<'b, str>>,
    pub topic: Option<Cow<'b, str>>,
    pub resume: Resume,
}

/// Where a watcher goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// It begins.
    Now,
    /// It has had all up to this event.
    Behind(EventId),
    /// It has had something that nobody can tell.
    Unreadable,
}

impl WatchCall<'_> {
    pub fn into_owned(self) -> WatchCall<'static> {
        let own = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        WatchCall { router: own(self.router), topic: own(self.topic), resume: self.resume }
    }
}

/// `GET /v1/events`.
pub fn watch<'b>(head: &Head<'b>) -> Result<WatchCall<'b>, Refusal> {
    let mut query = Query::parse(head.query, ["router", "topic"])?;
    let mut name = |index, is_good: fn(&str) -> bool, wrong: &'static str| match query.text(index) {
        None => Ok(None),
        Some(text) if text == "*" => Ok(None),
        Some(text) if is_good(&text) => Ok(Some(text)),
        Some(_) => Err(Refusal::bad_request(wrong)),
    };
    let router = name(0, id::is_id, "router: 1 to 64 of A-Za-z0-9._:-, or *")?;
    let is_topic: fn(&str) -> bool = |topic| id::is_topic(topic) || topic == PRESENCE;
    let topic = name(1, is_topic, "topic: 1 to 128 of A-Za-z0-9._:/-, $presence, or *")?;
    let mut ids = head.headers("last-event-id");
    let resume = match (ids.next(), ids.next()) {
        (None, _) => Resume::Now,
        (Some(id), None) => EventId::parse(id).map_or(Resume::Unreadable, Resume::Behind),
        (Some(_), Some(_)) => Resume::Unreadable,
    };
    Ok(WatchCall { router, topic, resume })
}

/// An event that a backend publishes.
#[derive(Debug, PartialEq, Eq)]
pub struct Publication<'b> {
    pub router: Cow<'b, str>,
    pub topic: Cow<'b, str>,
    pub body: Cow<'b, [u8]>,
    pub json: bool,
    pub retain: bool,
}

/// The body of `POST /v1/events`.
pub fn publication(json: &[u8]) -> Result<Publication<'_>, Refusal> {
    let bad = |detail: String| Refusal::bad_request(detail);
    let text = std::str::from_utf8(json).map_err(|_| bad("the body is not UTF-8".into()))?;
    let PublishParams { router, topic, body, body_base64, retain } = by_name(text).map_err(bad)?;
    if !id::is_id(&router) {
        return Err(bad("router: 1 to 64 of A-Za-z0-9._:-".into()));
    }
    if !id::is_topic(&topic) {
        return Err(bad("topic: 1 to 128 of A-Za-z0-9._:/-".into()));
    }
    let (body, json) = body_bytes(body, body_base64.as_deref()).map_err(|detail| bad(detail.into()))?;
    if body.len() > MAX_MESSAGE_BYTES {
        return Err(Refusal::new(413, "too_large", "body: at most 1048576 bytes"));
    }
    Ok(Publication { router, topic, body, json, retain: retain.unwrap_or(false) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::http::parse_head;

    fn asked(query: &str, headers: &str) -> Result<WatchCall<'static>, String> {
        let head = format!("GET /v1/events{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n");
        let (head, _) = parse_head(head.as_bytes(), &mut 0, 32_768).unwrap().unwrap();
        watch(&head).map(WatchCall::into_owned).map_err(|refusal| refusal.detail.into_owned())
    }

    #[test]
    fn everything_unless_a_name_is_given() {
        let all = WatchCall { router: None, topic: None, resume: Resume::Now };
        assert_eq!(asked("", ""), Ok(all.clone()));
        assert_eq!(asked("?router=*&topic=%2A", ""), Ok(all.clone()));
        let one = WatchCall { router: Some("hub:1".into()), topic: Some("$presence".into()), ..all };
        assert_eq!(asked("?topic=%24presence&router=hub%3a1", ""), Ok(one));
        for (query, named) in [
            ("?router=", "router"),
            ("?router=a/b", "router"),
            ("?topic=$other", "topic"),
            ("?topic=a&topic=a", "topic"),
            ("?limit=1", "limit"),
        ] {
            let detail = asked(query, "").unwrap_err();
            assert!(detail.starts_with(named), "{query}: {detail}");
        }
    }

    #[test]
    fn where_it_goes_on() {
        let resume = |headers: &str| asked("", headers).unwrap().resume;
        let id = EventId { run: 0xab, number: 42 };
        assert_eq!(resume("Last-Event-ID: 00000000000000ab-42\r\n"), Resume::Behind(id));
        for bad in ["", "42", "00000000000000ab-", "ab-42", "00000000000000ab-+1", "00000000000000AB-1"] {
            assert_eq!(resume(&format!("last-event-id: {bad}\r\n")), Resume::Unreadable, "{bad}");
        }
        let twice = "Last-Event-ID: 00000000000000ab-42\r\n".repeat(2);
        assert_eq!(resume(&twice), Resume::Unreadable);
    }

    #[test]
    fn what_is_published() {
        let event = |members: &str| format!(r#"{{"router":"r","topic":"a/b"{members}}}"#);
        let read = |json: &str| {
            let publication = publication(json.as_bytes());
            publication
                .map(|one| (one.body.into_owned(), one.json, one.retain))
                .map_err(|refusal| refusal.detail)
        };
        assert_eq!(
            read(&event(r#","body":{"on": true},"retain":true"#)),
            Ok((b"{\"on\": true}".to_vec(), true, true))
        );
        assert_eq!(read(&event(r#","body":null"#)), Ok((b"null".to_vec(), true, false)));
        assert_eq!(read(&event(r#","body_base64":"AAE=","retain":false"#)), Ok((vec![0, 1], false, false)));
        assert_eq!(read(&event("")), Ok((Vec::new(), false, false)));
        for (json, named) in [
            (event(r#","body":1,"body_base64":"""#), "body and body_base64"),
            (event(r#","body_base64":"?""#), "body_base64"),
            (event(r#","retain":1"#), "retain"),
            (event(r#","what":1"#), "unknown field `what`"),
            (event(r#","topic":"t""#), "duplicate field `topic`"),
            (r#"{"router":"r"}"#.into(), "missing field `topic`"),
            (r#"{"router":"r/","topic":"t"}"#.into(), "router"),
            (r#"{"router":"*","topic":"t"}"#.into(), "router"),
            (r#"{"router":"r","topic":"$presence"}"#.into(), "topic"),
            (r#"["r","t"]"#.into(), "invalid type"),
            ("\u{0}".into(), "expected value"),
        ] {
            let detail = read(&json).unwrap_err();
            assert!(detail.starts_with(named), "{json}: {detail}");
        }
        assert_eq!(publication(b"\xff").unwrap_err().status, 400);
        let long = event(&format!(r#","body":"{}""#, "x".repeat(MAX_MESSAGE_BYTES)));
        assert_eq!(publication(long.as_bytes()).unwrap_err().status, 413);
    }
}
