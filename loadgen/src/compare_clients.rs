//! The clients of `loadgen compare`: they do as little as they can, the same for the daemon and for the bare one, so that
//! both are driven alike. What the daemon says is checked by `loadgen run`; here it is counted.

use std::io::Write;

use crate::frame::{self, Commands, Gathered};
use crate::http;
use crate::random::Random;
use crate::reactor::{self, Ended, Link};
use crate::websocket;

/// Shared by all clients of one measurement.
pub struct World {
    /// What an HTTP caller of the daemon sends: its path has the router of its number.
    pub host: String,
    pub payload: Vec<u8>,
    /// The whole answer of a bare router, and the whole notification for a bare watcher.
    pub canned: Vec<u8>,
    /// Clients that are connected and, with the daemon, welcomed or subscribed.
    pub ready: usize,
    /// Round trips that may still be begun, and those that are done.
    pub to_begin: u64,
    pub done: u64,
    /// Watchers that have not had the current event.
    pub waiting: usize,
    pub random: Random,
    pub failed: Option<String>,
}

pub enum Client {
    /// HTTP, to the daemon or through the bare relay; the length of the answer is learnt from the first.
    Caller {
        request: Vec<u8>,
        number: usize,
        answer_len: usize,
        received: usize,
    },
    /// A router of the daemon: answers commands, or emits.
    Router {
        number: usize,
        commands: Commands,
    },
    /// A router behind the bare relay: answers each request's worth of bytes.
    BareRouter {
        number: usize,
        request_len: usize,
        received: usize,
    },
    /// Writes one notification at a time into the bare writer.
    BareSource,
    /// A watcher of the daemon: counts frames.
    Watcher {
        upgraded: bool,
        subscribed: bool,
    },
    BareWatcher {
        received: usize,
    },
}

pub fn router_id(number: usize) -> String {
    format!("compare-{number:04}")
}

impl World {
    pub fn request(&self, number: usize) -> Vec<u8> {
        let mut request = Vec::new();
        let path = format!("/v1/routers/{}/commands/work?timeout_ms=30000", router_id(number));
        http::post(&mut request, &path, &self.host, "application/octet-stream", &self.payload);
        request
    }

    fn begin(&mut self) -> bool {
        let more = self.to_begin > 0;
        self.to_begin -= u64::from(more);
        more
    }
}

impl Client {
    /// A caller begins to call; the source sends the next event.
    pub fn go(&mut self, world: &mut World, link: &mut Link<'_>) {
        match self {
            Self::Caller { request, .. } => {
                if world.begin() {
                    link.out.extend_from_slice(request);
                }
            }
            Self::Router { .. } => {
                frame::encode_message(link.out, frame::EVENT, frame::JSON, 0, "load", &world.payload);
            }
            Self::BareSource => link.out.extend_from_slice(&world.canned),
            Self::BareRouter { .. } | Self::Watcher { .. } | Self::BareWatcher { .. } => {}
        }
    }

    fn router_frames(
        commands: &mut Commands,
        world: &mut World,
        link: &mut Link<'_>,
        bytes: &[u8],
    ) -> Result<usize, String> {
        let mut taken = 0;
        while let Some((frame, used)) = frame::decode(&bytes[taken..])? {
            taken += used;
            match frame.kind {
                frame::WELCOME => world.ready += 1,
                frame::PING => frame::encode(link.out, frame::PONG, 0, frame.id, "", frame.body),
                frame::COMMAND => {
                    if let Gathered::Whole(command) = commands.take(&frame)? {
                        frame::encode_message(link.out, frame::REPLY, 0, command.id, "", &world.payload);
                    }
                }
                kind => return Err(format!("a frame of kind {kind:#04x}: {}", frame.name)),
            }
        }
        Ok(taken)
    }

    fn watcher_frames(
        subscribed: &mut bool,
        world: &mut World,
        link: &mut Link<'_>,
        bytes: &[u8],
    ) -> Result<usize, String> {
        let mut taken = 0;
        while let Some((frame, used)) = websocket::decode(&bytes[taken..])? {
            taken += used;
            match frame.opcode {
                websocket::TEXT if !*subscribed => {
                    *subscribed = true;
                    world.ready += 1;
                }
                websocket::TEXT => world.waiting = world.waiting.saturating_sub(1),
                websocket::PING => {
                    websocket::encode(link.out, websocket::PONG, frame.payload, &mut world.random)
                }
                opcode => return Err(format!("a frame with opcode {opcode:#x}")),
            }
        }
        Ok(taken)
    }
}

impl reactor::Client for Client {
    type World = World;

    fn connected(&mut self, world: &mut World, link: &mut Link<'_>) {
        match self {
            Self::Router { number, .. } => {
                frame::encode(link.out, frame::HELLO, 0, 1, &router_id(*number), b"")
            }
            Self::Watcher { .. } => {
                link.out.extend_from_slice(websocket::upgrade_request(&world.host, false).as_bytes());
            }
            Self::Caller { request, number, .. } => {
                *request = world.request(*number);
                world.ready += 1;
            }
            Self::BareRouter { number, request_len, .. } => {
                *request_len = world.request(*number).len();
                world.ready += 1;
            }
            Self::BareSource | Self::BareWatcher { .. } => world.ready += 1,
        }
    }

    fn received(&mut self, world: &mut World, link: &mut Link<'_>, bytes: &[u8]) -> Result<usize, String> {
        match self {
            Self::Caller { request, answer_len, received, .. } => {
                if *answer_len == 0 {
                    let Some((response, used)) = http::decode(bytes)? else { return Ok(0) };
                    if response.status != 200 || response.body.len() != world.payload.len() {
                        return Err(format!(
                            "{} {}",
                            response.status,
                            String::from_utf8_lossy(response.body)
                        ));
                    }
                    *answer_len = used;
                }
                *received += bytes.len();
                if *received >= *answer_len {
                    if *received > *answer_len {
                        return Err("more bytes than one answer".into());
                    }
                    *received = 0;
                    world.done += 1;
                    if world.begin() {
                        link.out.extend_from_slice(request);
                    }
                }
                Ok(bytes.len())
            }
            Self::Router { commands, .. } => Self::router_frames(commands, world, link, bytes),
            Self::BareRouter { request_len, received, .. } => {
                *received += bytes.len();
                while *received >= *request_len {
                    *received -= *request_len;
                    link.out.extend_from_slice(&world.canned);
                }
                Ok(bytes.len())
            }
            Self::Watcher { upgraded, subscribed } => {
                let mut taken = 0;
                if !*upgraded {
                    let Some((response, used)) = http::decode(bytes)? else { return Ok(0) };
                    if response.status != 101 {
                        return Err(format!("upgrade: {}", response.status));
                    }
                    (*upgraded, taken) = (true, used);
                    let subscribe =
                        br#"{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"router":"*","topic":"*"}}"#;
                    websocket::encode(link.out, websocket::TEXT, subscribe, &mut world.random);
                }
                Ok(taken + Self::watcher_frames(subscribed, world, link, &bytes[taken..])?)
            }
            Self::BareWatcher { received } => {
                *received += bytes.len();
                while *received >= world.canned.len() {
                    *received -= world.canned.len();
                    world.waiting = world.waiting.saturating_sub(1);
                }
                Ok(bytes.len())
            }
            Self::BareSource => Ok(bytes.len()),
        }
    }

    fn timer(&mut self, _: &mut World, _: &mut Link<'_>, _: u8) {}

    fn ended(&mut self, world: &mut World, _: &mut Link<'_>, why: Ended) {
        world.failed.get_or_insert(format!("a connection ended: {why:?}"));
    }
}

/// An HTTP answer of about the daemon's size, for a bare router.
pub fn canned_answer(payload: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let _ = write!(
        answer,
        "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 18:00:00 GMT\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: {}\r\n\r\n",
        payload.len()
    );
    answer.extend_from_slice(payload);
    answer
}

/// A notification of about the daemon's size, as a WebSocket frame, for the bare writer.
pub fn canned_event(payload: &[u8]) -> Vec<u8> {
    let body = String::from_utf8_lossy(payload);
    let router = router_id(0);
    let text = format!(
        r#"{{"jsonrpc":"2.0","method":"event","params":{{"router":"{router}","topic":"load","seq":1000,"body":{body}}}}}"#
    );
    let mut event = vec![0x81];
    match text.len() {
        len @ 0..=125 => event.push(len as u8),
        len @ 126..=0xffff => {
            event.push(126);
            event.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            event.push(127);
            event.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    event.extend_from_slice(text.as_bytes());
    event
}
