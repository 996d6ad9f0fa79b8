//! The `event` notification: what every watcher of a router is sent, and so the hottest thing that is
//! written.

use super::body::{Body, write_body_member};

/// What an event says. Router and topic are of the contract's charset, which needs no escaping in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventParams<'a> {
    pub router: &'a str,
    pub topic: &'a str,
    /// The router's event counter; none for presence.
    pub seq: Option<u64>,
    pub body: Body<'a>,
    /// Whether it is a topic's last value, told at the start of a subscription.
    pub retained: bool,
}

const HEAD: &[u8] = br#"{"jsonrpc":"2.0","method":"event","params":"#;

impl EventParams<'_> {
    /// Room for the whole notification, in bytes: at most 43 more than it takes.
    pub fn notification_len(&self) -> usize {
        const NAMES: usize = r#"{"router":"","topic":"","seq":,,"retained":true}}"#.len();
        const LONGEST_SEQ: usize = 20;
        HEAD.len() + NAMES + LONGEST_SEQ + self.router.len() + self.topic.len() + self.body.member_len()
    }
}

/// Appends the whole notification.
pub fn write_event(out: &mut Vec<u8>, event: &EventParams<'_>) {
    out.reserve(event.notification_len());
    out.extend_from_slice(HEAD);
    write_event_params(out, event);
    out.push(b'}');
}

/// Appends the object that is the notification's `params`; it is also what SSE carries.
pub fn write_event_params(out: &mut Vec<u8>, event: &EventParams<'_>) {
    debug_assert!(
        [event.router, event.topic].iter().all(|name| !name.contains(['"', '\\']) && name.is_ascii())
    );
    out.extend_from_slice(b"{\"router\":\"");
    out.extend_from_slice(event.router.as_bytes());
    out.extend_from_slice(b"\",\"topic\":\"");
    out.extend_from_slice(event.topic.as_bytes());
    out.extend_from_slice(b"\",");
    if let Some(seq) = event.seq {
        out.extend_from_slice(b"\"seq\":");
        out.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
        out.push(b',');
    }
    write_body_member(out, event.body);
    if event.retained {
        out.extend_from_slice(b",\"retained\":true");
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(event: &EventParams<'_>) -> String {
        let mut out = Vec::new();
        write_event(&mut out, event);
        let spare = event.notification_len() - out.len();
        assert!(spare <= 43, "{spare}");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event() {
        let event = EventParams {
            router: "hub-1",
            topic: "sensors/door",
            seq: Some(42),
            body: Body::Json(b"{\"open\":true}"),
            retained: false,
        };
        assert_eq!(
            written(&event),
            concat!(
                r#"{"jsonrpc":"2.0","method":"event","params":{"router":"hub-1","topic":"sensors/door","#,
                r#""seq":42,"body":{"open":true}}}"#
            )
        );
    }

    #[test]
    fn a_retained_value_that_is_not_json() {
        let event = EventParams {
            router: "r",
            topic: "t",
            seq: Some(u64::MAX),
            body: Body::Base64(b"\0"),
            retained: true,
        };
        assert_eq!(
            written(&event),
            concat!(
                r#"{"jsonrpc":"2.0","method":"event","params":{"router":"r","topic":"t","#,
                r#""seq":18446744073709551615,"body_base64":"AA==","retained":true}}"#
            )
        );
    }

    #[test]
    fn presence_has_no_seq() {
        let body = Body::Json(b"{\"online\":false,\"session\":null}");
        let event = EventParams { router: "r", topic: "$presence", seq: None, body, retained: true };
        let mut out = Vec::new();
        write_event_params(&mut out, &event);
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            r#"{"router":"r","topic":"$presence","body":{"online":false,"session":null},"retained":true}"#
        );
        written(&event);
        written(&EventParams { retained: false, ..event });
    }
}
