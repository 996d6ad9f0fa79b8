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
    pub origin: Origin,
}

/// Where what is told comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It has just happened.
    Live,
    /// A topic's last value, told at the start of a subscription.
    Retained,
    /// The history: it happened while the client was away.
    Replayed,
}

/// What an event that says that others are missing is called, in place of a topic.
pub const GAP: &str = "berth.gap";

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
    out.extend_from_slice(match event.origin {
        Origin::Live => b"",
        Origin::Retained => b",\"retained\":true",
        Origin::Replayed => b",\"replayed\":true",
    });
    out.push(b'}');
}

/// Appends the notification that says that events of `router` up to `seq` are lost to a client that was catching up; with the
/// epoch that holds now, or none where nothing is remembered of the router any more.
pub fn write_gap(out: &mut Vec<u8>, router: &str, seq: u64, epoch: Option<u64>) {
    let epoch = epoch.map(|epoch| format!("{epoch:016x}"));
    let params =
        serde_json::json!({ "router": router, "topic": GAP, "seq": seq, "epoch": epoch, "gap": true });
    out.extend_from_slice(HEAD);
    out.extend_from_slice(params.to_string().as_bytes());
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
            origin: Origin::Live,
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
            origin: Origin::Retained,
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
        let event =
            EventParams { router: "r", topic: "$presence", seq: None, body, origin: Origin::Retained };
        let mut out = Vec::new();
        write_event_params(&mut out, &event);
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            r#"{"router":"r","topic":"$presence","body":{"online":false,"session":null},"retained":true}"#
        );
        written(&event);
        written(&EventParams { origin: Origin::Live, ..event });
    }

    #[test]
    fn replayed_and_lost() {
        let body = Body::Json(b"1");
        let event = EventParams { router: "r", topic: "t", seq: Some(7), body, origin: Origin::Replayed };
        assert!(written(&event).ends_with(r#""seq":7,"body":1,"replayed":true}}"#));
        let mut out = Vec::new();
        write_gap(&mut out, "r", 41, Some(0xab));
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            concat!(
                r#"{"jsonrpc":"2.0","method":"event","params":"#,
                r#"{"epoch":"00000000000000ab","gap":true,"router":"r","seq":41,"topic":"berth.gap"}}"#
            )
        );
    }
}
