//! A blocking WebSocket client (RFC 6455) with its own small codec, so that every rule can be broken on purpose, and
//! JSON-RPC 2.0 calls on top of it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Client, Headers, Response};
use crate::router::Dial;

/// The key and its answer that RFC 6455 section 1.3 gives as the example: no SHA-1 is needed to check a handshake.
pub const SAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const SAMPLE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// The headers that a handshake needs besides Host.
pub const HANDSHAKE: Headers<'static> = &[
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", SAMPLE_KEY),
];

/// What the server sent: a whole message, or a control frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// The code, `None` for an empty close frame, and the reason.
    Close(Option<u16>, String),
}

/// An upgraded connection.
#[derive(Debug)]
pub struct WebSocket {
    client: Client,
    /// Whether `receive` answers PINGs by itself (and hides them).
    pub answers_pings: bool,
    events: VecDeque<Value>,
    next_id: u64,
    next_mask: u32,
}

impl WebSocket {
    /// Upgrades at `/ws`, with the headers that an ordinary client sends.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::handshake(address, "/ws", HANDSHAKE).expect("an upgrade")
    }

    /// Upgrades over a connection whose kernel takes little while nobody reads.
    #[track_caller]
    pub fn connect_small(address: SocketAddr) -> Self {
        let dial = Dial { receive_buffer: Some(4096), ..Dial::default() };
        let mut client = Client::over(dial.stream(address).expect("connect"));
        client.send_request("GET", "/ws", HANDSHAKE, b"");
        Self::upgraded(client).expect("an upgrade")
    }

    /// Upgrades as a browser that shows a page of `origin`.
    #[track_caller]
    pub fn connect_from(address: SocketAddr, origin: &str) -> Self {
        Self::handshake(address, "/ws", &[HANDSHAKE, &[("Origin", origin)]].concat()).expect("an upgrade")
    }

    /// Sends a handshake with just these headers (and Host); the refusal is returned as it is.
    pub fn handshake(address: SocketAddr, target: &str, headers: Headers) -> Result<Self, Response> {
        let mut client = Client::connect(address);
        client.send_request("GET", target, headers, b"");
        Self::upgraded(client)
    }

    /// Reads the answer to a handshake that was sent already.
    #[track_caller]
    pub fn upgraded(mut client: Client) -> Result<Self, Response> {
        let response = client.response();
        if response.status != 101 {
            return Err(response);
        }
        assert_eq!(
            response.header("upgrade").map(str::to_lowercase).as_deref(),
            Some("websocket"),
            "{response:?}"
        );
        assert_eq!(
            response.header("connection").map(str::to_lowercase).as_deref(),
            Some("upgrade"),
            "{response:?}"
        );
        assert!(response.header("sec-websocket-accept").is_some(), "{response:?}");
        // No extension and no subprotocol was asked for, so none may be chosen (RFC 6455 section 4.1).
        assert_eq!(response.header("sec-websocket-extensions"), None);
        assert_eq!(response.header("sec-websocket-protocol"), None);
        Ok(Self { client, answers_pings: true, events: VecDeque::new(), next_id: 1, next_mask: 0x9e37_79b9 })
    }

    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    // --- Sending -----------------------------------------------------------------------------------------------------

    /// One masked frame; `first` is FIN, the reserved bits and the opcode.
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.next_mask = self.next_mask.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        let frame = encode_frame(first, self.next_mask.to_be_bytes(), payload);
        self.client.send(frame);
    }

    pub fn send_text(&mut self, text: &str) {
        self.send_frame(0x80 | TEXT, text.as_bytes());
    }

    pub fn send_json(&mut self, value: &Value) {
        self.send_text(&value.to_string());
    }

    /// A message in parts, cut wherever the caller likes, in the middle of a character too.
    pub fn send_fragments(&mut self, opcode: u8, parts: &[&[u8]]) {
        for (index, part) in parts.iter().enumerate() {
            let fin = if index + 1 == parts.len() { 0x80 } else { 0 };
            self.send_frame(fin | if index == 0 { opcode } else { CONTINUATION }, part);
        }
    }

    pub fn send_close(&mut self, code: u16, reason: &str) {
        self.send_frame(0x80 | CLOSE, &[&code.to_be_bytes()[..], reason.as_bytes()].concat());
    }

    // --- Receiving ---------------------------------------------------------------------------------------------------

    /// The next message or control frame. Panics on whatever a server must not send.
    #[track_caller]
    pub fn receive(&mut self) -> Message {
        self.try_receive().unwrap_or_else(|error| panic!("no message: {error}"))
    }

    pub fn try_receive(&mut self) -> io::Result<Message> {
        let mut whole = None;
        loop {
            let (fin, opcode, payload) = self.read_frame()?;
            if opcode >= CLOSE {
                assert!(fin && payload.len() <= 125, "a control frame that is cut or too long");
            }
            match opcode {
                PING if self.answers_pings => self.send_frame(0x80 | PONG, &payload),
                PING => return Ok(Message::Ping(payload)),
                PONG => return Ok(Message::Pong(payload)),
                CLOSE => return Ok(close_message(&payload)),
                TEXT | BINARY => {
                    assert!(whole.is_none(), "a message inside a message");
                    whole = Some((opcode, payload));
                    if fin {
                        return Ok(data_message(whole));
                    }
                }
                CONTINUATION => {
                    whole.as_mut().expect("a message to continue").1.extend(payload);
                    if fin {
                        return Ok(data_message(whole));
                    }
                }
                _ => panic!("opcode {opcode:#x}"),
            }
        }
    }

    /// The next frame: FIN, opcode, payload. A timeout in the middle of it loses nothing.
    fn read_frame(&mut self) -> io::Result<(bool, u8, Vec<u8>)> {
        let [first, second] = *self.client.peek(2)? else { unreachable!("two bytes") };
        assert_eq!(first & 0x70, 0, "reserved bits");
        assert_eq!(second & 0x80, 0, "a server never masks");
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
        let (header, length) = match second {
            126 => (4, number(&self.client.peek(4)?[2..])),
            127 => (10, number(&self.client.peek(10)?[2..])),
            short => (2, usize::from(short)),
        };
        let shortest = match length {
            0..126 => 2,
            126..65_536 => 4,
            _ => 10,
        };
        assert_eq!(header, shortest, "a length of {length} that is not in its shortest form");
        let payload = self.client.take(header + length)?.split_off(header);
        Ok((first & 0x80 != 0, first & 0x0f, payload))
    }

    /// The next text message as JSON.
    #[track_caller]
    pub fn receive_json(&mut self) -> Value {
        match self.receive() {
            Message::Text(text) => {
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
            }
            other => panic!("no text message: {other:?}"),
        }
    }

    /// Asserts that the server sends a close frame with `code`, behind any text messages, and then closes.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) {
        loop {
            match self.receive() {
                Message::Text(_) => {}
                Message::Close(got, reason) => {
                    assert_eq!(got, Some(code), "{reason}");
                    break;
                }
                other => panic!("{other:?} instead of a close frame"),
            }
        }
        self.client.expect_close();
    }

    // --- JSON-RPC ----------------------------------------------------------------------------------------------------

    /// Sends a call and returns its id, without waiting.
    pub fn start(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send_json(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// Waits for the response to `id`: the result, or the error object. Events that come before it are kept.
    #[track_caller]
    pub fn finish(&mut self, id: u64) -> Result<Value, Value> {
        loop {
            let message = self.receive_json();
            if message.get("method").is_some() {
                self.events.push_back(event_params(message));
                continue;
            }
            assert_eq!(message["id"], id, "a response out of turn: {message}");
            return outcome(&message);
        }
    }

    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.start(method, params);
        self.finish(id)
    }

    /// Subscribes and returns the result.
    #[track_caller]
    pub fn subscribe(&mut self, router: &str, topic: &str) -> Value {
        self.call("subscribe", json!({"router": router, "topic": topic})).expect("a subscription")
    }

    /// The params of the next `event` notification.
    #[track_caller]
    pub fn event(&mut self) -> Value {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        let message = self.receive_json();
        assert!(message.get("method").is_some(), "no event: {message}");
        event_params(message)
    }

    /// Takes the events that came before the answers to calls.
    pub fn kept_events(&mut self) -> Vec<Value> {
        self.events.drain(..).collect()
    }

    /// Asserts that no event was sent before the answer to a call that is made now.
    #[track_caller]
    pub fn expect_no_event(&mut self) {
        self.call("routers", json!({"limit": 1})).expect("routers");
        assert!(self.events.is_empty(), "{:?}", self.events);
    }

    pub fn set_patience(&mut self, patience: Duration) {
        self.client.set_patience(patience);
    }
}

/// One frame as a client sends it.
pub fn encode_frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
    frame
}

/// The result or the error object of a response, whose members are checked (JSON-RPC 2.0 section 5).
#[track_caller]
pub fn outcome(response: &Value) -> Result<Value, Value> {
    assert_eq!(response["jsonrpc"], "2.0", "{response}");
    let members = response.as_object().expect("an object");
    assert_eq!(members.len(), 3, "{response}");
    assert!(members.contains_key("id"), "{response}");
    match (members.get("result"), members.get("error")) {
        (Some(result), None) => Ok(result.clone()),
        (None, Some(error)) => {
            assert!(error["code"].is_i64(), "{response}");
            assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{response}");
            Err(error.clone())
        }
        _ => panic!("neither result nor error, or both: {response}"),
    }
}

/// Asserts the exact members of a notification and takes its params.
#[track_caller]
fn event_params(mut message: Value) -> Value {
    let params = message["params"].take();
    assert_eq!(message, json!({"jsonrpc": "2.0", "method": "event", "params": null}));
    params
}

fn data_message(whole: Option<(u8, Vec<u8>)>) -> Message {
    match whole.expect("a message") {
        (TEXT, payload) => Message::Text(String::from_utf8(payload).expect("text of UTF-8")),
        (_, payload) => Message::Binary(payload),
    }
}

fn close_message(payload: &[u8]) -> Message {
    match payload {
        [] => Message::Close(None, String::new()),
        [high, low, reason @ ..] => {
            let reason = String::from_utf8(reason.to_vec()).expect("a reason of UTF-8");
            Message::Close(Some(u16::from_be_bytes([*high, *low])), reason)
        }
        [_] => panic!("a close frame of one byte"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tungstenite::Message as Theirs;

    use super::*;

    /// The codec here against one that others wrote, with the length in each of its forms.
    #[test]
    fn another_implementation_understands_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            let mut socket =
                tungstenite::accept(listener.accept().expect("a client").0).expect("a handshake");
            loop {
                match socket.read() {
                    Ok(message @ (Theirs::Text(_) | Theirs::Binary(_))) => {
                        socket.send(message).expect("an echo")
                    }
                    Ok(_) => {}
                    Err(error) => return matches!(error, tungstenite::Error::ConnectionClosed),
                }
            }
        });
        let mut socket = WebSocket::connect(address);
        for length in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
            let text = "x".repeat(length);
            socket.send_text(&text);
            assert_eq!(socket.receive(), Message::Text(text.clone()));
            socket.send_frame(0x80 | BINARY, text.as_bytes());
            assert_eq!(socket.receive(), Message::Binary(text.into_bytes()));
        }
        socket.send_fragments(TEXT, &[b"\xe2\x82", b"", b"\xac"]);
        assert_eq!(socket.receive(), Message::Text("€".to_owned()));
        socket.send_frame(0x80 | PING, b"?");
        assert_eq!(socket.receive(), Message::Pong(b"?".to_vec()));
        socket.send_close(1000, "done");
        assert_eq!(socket.receive(), Message::Close(Some(1000), "done".to_owned()));
        assert!(server.join().expect("the server"));
    }
}
