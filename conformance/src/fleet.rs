//! A fleet call, contract section 3, whose answer is taken line by line.

use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::http::{Client, Response};
use crate::router::Router;

/// A call that was sent, and its answer as far as it was read.
#[derive(Debug)]
pub struct FleetCall {
    pub client: Client,
    buffered: Vec<u8>,
}

impl FleetCall {
    /// Sends a call of `name` on a connection of its own.
    pub fn send(http: SocketAddr, name: &str, call: &Value) -> Self {
        Self::over(Client::connect(http), name, call)
    }

    pub fn over(mut client: Client, name: &str, call: &Value) -> Self {
        client.send_request("POST", &format!("/v1/commands/{name}"), &[], call.to_string().as_bytes());
        Self { client, buffered: Vec::new() }
    }

    /// Takes the head of an answer that has lines.
    #[track_caller]
    pub fn head(&mut self) -> Response {
        let head = self.client.head().unwrap_or_else(|error| panic!("no head: {error}"));
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("content-type"), Some("application/x-ndjson"), "{head:?}");
        assert_eq!(head.header("transfer-encoding"), Some("chunked"), "{head:?}");
        assert_eq!(head.header("content-length"), None, "{head:?}");
        head
    }

    /// The next line as it stands, without its end; `None` behind the last chunk.
    pub fn try_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffered.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffered.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffered, rest);
                line.pop();
                return Ok(Some(line));
            }
            match self.client.chunk()? {
                Some(chunk) => self.buffered.extend(chunk),
                None => {
                    assert!(self.buffered.is_empty(), "a line that does not end");
                    return Ok(None);
                }
            }
        }
    }

    /// The next line, which must come.
    #[track_caller]
    pub fn line(&mut self) -> Value {
        let line = self.try_line().unwrap_or_else(|error| panic!("no line: {error}"));
        parse(&line.expect("a line, and the answer is at its end"))
    }

    /// All lines to the end of the answer.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<Value> {
        let mut lines = Vec::new();
        while let Some(line) = self.try_line().unwrap_or_else(|error| panic!("cut: {error}")) {
            lines.push(parse(&line));
        }
        lines
    }
}

/// A line must be compact: nothing but the value, and no white space of ours in it.
#[track_caller]
fn parse(line: &[u8]) -> Value {
    serde_json::from_slice(line)
        .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(line)))
}

/// All lines of one call.
#[track_caller]
pub fn lines(http: SocketAddr, name: &str, call: &Value) -> Vec<Value> {
    let mut call = FleetCall::send(http, name, call);
    call.head();
    call.rest()
}

/// The line of a router that gave no answer.
pub fn problem(router: &str, status: u16, code: &str, sent: bool) -> Value {
    json!({ "router": router, "status": status, "code": code, "sent": sent })
}

/// The lines by router, each of which must be there once.
#[track_caller]
pub fn sorted(mut lines: Vec<Value>) -> Vec<Value> {
    lines.sort_by_key(|line| line["router"].as_str().expect("a router").to_owned());
    let twice = lines.windows(2).find(|pair| pair[0]["router"] == pair[1]["router"]);
    assert!(twice.is_none(), "two lines: {twice:?}");
    lines
}

/// `count` bound routers whose ids are in the order of their numbers, and the ids.
pub fn bind_fleet(router: SocketAddr, count: usize) -> (Vec<Router>, Vec<String>) {
    let ids: Vec<String> = (0..count).map(|number| format!("r{number:05}")).collect();
    (ids.iter().map(|id| Router::bind(router, id)).collect(), ids)
}
