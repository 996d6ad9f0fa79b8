//! A client of server-sent events (WHATWG HTML, section 9.2) that holds the server to what the contract says of them: one line
//! of data a block, and nothing else but comments.

use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::http::{Client, Headers, Response, request};

/// One event as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub event: String,
    pub id: Option<String>,
    pub data: Value,
}

impl Block {
    /// The number of its id: how many events there had been in this run of the daemon, with this one.
    #[track_caller]
    pub fn number(&self) -> u64 {
        let (_, number) = self.id.as_deref().expect("an id").split_once('-').expect("run and number");
        number.parse().expect("a number")
    }

    /// Asserts that it says that events are missing.
    #[track_caller]
    pub fn expect_gap(&self) {
        assert_eq!((self.event.as_str(), &self.data["gap"]), ("berth.gap", &json!(true)), "{self:?}");
    }
}

#[derive(Debug)]
pub struct EventSource {
    client: Client,
    pub head: Response,
    text: Vec<u8>,
    pub comments: usize,
}

impl EventSource {
    /// Watches with these query parameters.
    #[track_caller]
    pub fn connect(address: SocketAddr, query: &str) -> Self {
        Self::over(Client::connect(address), query, &[])
    }

    /// The same for one that has had everything up to `id`.
    #[track_caller]
    pub fn resume(address: SocketAddr, query: &str, id: &str) -> Self {
        Self::over(Client::connect(address), query, &[("Last-Event-ID", id)])
    }

    #[track_caller]
    pub fn over(mut client: Client, query: &str, headers: Headers) -> Self {
        client.send_request("GET", &format!("/v1/events{query}"), headers, b"");
        let head = client.head().expect("a head");
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert_eq!(head.header("cache-control"), Some("no-store"));
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        Self { client, head, text: Vec::new(), comments: 0 }
    }

    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The next event; `None` when the body has come to its end, with its last chunk.
    pub fn try_block(&mut self) -> io::Result<Option<Block>> {
        loop {
            match self.next()? {
                Some(Some(block)) => return Ok(Some(block)),
                Some(None) => {}
                None => return Ok(None),
            }
        }
    }

    /// The next event, or a comment without one.
    fn next(&mut self) -> io::Result<Option<Option<Block>>> {
        loop {
            if let Some(end) = self.text.windows(2).position(|bytes| bytes == b"\n\n") {
                let rest = self.text.split_off(end + 2);
                let block = String::from_utf8(std::mem::replace(&mut self.text, rest)).expect("UTF-8");
                let block = parse(block.trim_end_matches('\n'));
                self.comments += usize::from(block.is_none());
                return Ok(Some(block));
            }
            match self.client.chunk()? {
                Some(chunk) => self.text.extend(chunk),
                None => {
                    assert!(self.text.is_empty(), "half an event at the end");
                    return Ok(None);
                }
            }
        }
    }

    #[track_caller]
    pub fn block(&mut self) -> Block {
        self.try_block().unwrap_or_else(|error| panic!("no event: {error}")).expect("an event, not the end")
    }

    /// The next `count` events.
    #[track_caller]
    pub fn blocks(&mut self, count: usize) -> Vec<Block> {
        (0..count).map(|_| self.block()).collect()
    }

    #[track_caller]
    pub fn expect_end(&mut self) {
        let block = self.try_block().unwrap_or_else(|error| panic!("no end: {error}"));
        assert_eq!(block, None);
    }
}

/// The lines of a block; none for a comment.
#[track_caller]
fn parse(block: &str) -> Option<Block> {
    if block == ":" {
        return None;
    }
    let (mut event, mut id, mut data) = (None, None, None);
    for line in block.split('\n') {
        assert!(!line.contains('\r'), "{block:?}");
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("a line {line:?}"));
        let field = match name {
            "event" => &mut event,
            "id" => &mut id,
            "data" => &mut data,
            _ => panic!("a field {name:?}"),
        };
        assert!(field.replace(value.to_owned()).is_none(), "{name} comes twice: {block:?}");
    }
    let data = data.unwrap_or_else(|| panic!("no data: {block:?}"));
    let data = serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {data}"));
    Some(Block { event: event.expect("a name of the event"), id, data })
}

/// Publishes an event as a backend does, and returns the answer.
#[track_caller]
pub fn publish(address: SocketAddr, event: &Value) -> Response {
    request(address, "POST", "/v1/events", &[], event.to_string().as_bytes())
}
