//! A gateway just good enough for loadgen to run against, with threads and locks, and with faults that can be planted:
//! so that loadgen is seen to notice each of them.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use loadgen::frame::{self, ERROR, EVENT, Frame, HELLO, JSON, MORE, PING, PONG, REPLY, RETAIN, WELCOME};
use loadgen::options::Addresses;
use loadgen::websocket;
use serde_json::{Value, json};

/// What the fake does wrong, once: with the twentieth command, or with an event when all watchers are there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plant {
    None,
    EventDoubled,
    EventDropped,
    EventChanged,
    SeqSkipped,
    ReplyChanged,
    ReplyType,
    CommandDoubled,
    OnewayDropped,
    RouterCut,
    CensusOff,
}

type Writer = Arc<Mutex<TcpStream>>;
type Reply = (u8, Vec<u8>);

struct Bound {
    writer: Writer,
    next_id: u32,
    pending: HashMap<u32, Sender<Reply>>,
}

#[derive(Default)]
struct State {
    plant: Option<Plant>,
    occasions: u32,
    struck: bool,
    routers: HashMap<String, Bound>,
    seq: HashMap<String, u64>,
    retained: HashMap<(String, String), String>,
    watchers: Vec<(u64, String, Writer)>,
    opened: HashMap<&'static str, i64>,
    live: HashMap<&'static str, i64>,
    sessions: u64,
}

impl State {
    fn strikes(&mut self, plant: Plant) -> bool {
        if self.plant != Some(plant) {
            return false;
        }
        self.occasions += 1;
        let of_events = [Plant::EventDoubled, Plant::EventDropped, Plant::EventChanged, Plant::SeqSkipped];
        let strikes = self.occasions == if of_events.contains(&plant) { 300 } else { 20 };
        self.struck |= strikes;
        strikes
    }
}

type Shared = Arc<Mutex<State>>;

/// A running fake; it lives as long as the test's process.
pub struct Fake {
    pub addresses: Addresses,
    shared: Shared,
}

impl Fake {
    pub fn start(plant: Plant) -> Self {
        let shared: Shared = Arc::new(Mutex::new(State { plant: Some(plant), ..State::default() }));
        let addresses = Addresses {
            router: listen(&shared, "router", serve_router),
            http: listen(&shared, "http", serve_http),
            app: listen(&shared, "app", serve_watcher),
            page: listen(&shared, "page", serve_watcher),
        };
        Self { addresses, shared }
    }

    /// The fault has been done, or is one that needs no occasion.
    pub fn has_struck(&self) -> bool {
        let state = self.shared.lock().unwrap();
        matches!(state.plant, Some(Plant::None | Plant::CensusOff)) || state.struck
    }
}

fn listen(shared: &Shared, class: &'static str, serve: fn(&Shared, TcpStream) -> Option<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shared = shared.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = shared.clone();
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || {
                let count = |by: i64| *shared.lock().unwrap().live.entry(class).or_default() += by;
                *shared.lock().unwrap().opened.entry(class).or_default() += 1;
                count(1);
                serve(&shared, stream);
                count(-1);
            });
        }
    });
    address
}

fn read_frame(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(u8, u8, u32, String, Vec<u8>)> {
    loop {
        let decoded = frame::decode(bytes).unwrap();
        if let Some((Frame { kind, flags, id, name, body }, used)) = decoded {
            let owned = (kind, flags, id, name.to_string(), body.to_vec());
            bytes.drain(..used);
            return Some(owned);
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
    }
}

fn serve_router(shared: &Shared, mut stream: TcpStream) -> Option<()> {
    let writer = Arc::new(Mutex::new(stream.try_clone().ok()?));
    let mut bytes = Vec::new();
    let (kind, _, _, router, _) = read_frame(&mut stream, &mut bytes)?;
    assert_eq!(kind, HELLO);
    {
        let mut state = shared.lock().unwrap();
        state.sessions += 1;
        let limits = json!({"heartbeat_interval_ms": 60000, "heartbeat_timeout_ms": 20000,
                            "max_message_bytes": 1048576, "max_fragment_bytes": 16384});
        let mut out = Vec::new();
        frame::encode(
            &mut out,
            WELCOME,
            JSON,
            1,
            &format!("s{}", state.sessions),
            limits.to_string().as_bytes(),
        );
        writer.lock().unwrap().write_all(&out).ok()?;
        state
            .routers
            .insert(router.clone(), Bound { writer: writer.clone(), next_id: 1, pending: HashMap::new() });
    }
    let mut halves: HashMap<(u8, u32), (String, Vec<u8>)> = HashMap::new();
    while let Some((kind, flags, id, name, body)) = read_frame(&mut stream, &mut bytes) {
        if kind == PING {
            let mut out = Vec::new();
            frame::encode(&mut out, PONG, 0, id, "", &body);
            writer.lock().unwrap().write_all(&out).ok()?;
            continue;
        }
        let half = halves.entry((kind, id)).or_default();
        if half.0.is_empty() {
            half.0 = name;
        }
        half.1.extend_from_slice(&body);
        if flags & MORE != 0 {
            continue;
        }
        let (name, body) = halves.remove(&(kind, id)).unwrap();
        match kind {
            REPLY => {
                let mut state = shared.lock().unwrap();
                let sender = state.routers.get_mut(&router)?.pending.remove(&id)?;
                let _ = sender.send((flags, body));
            }
            EVENT => {
                if shared.lock().unwrap().strikes(Plant::RouterCut) {
                    break;
                }
                publish(shared, &router, &name, flags, body);
            }
            _ => break,
        }
    }
    shared.lock().unwrap().routers.remove(&router);
    Some(())
}

fn publish(shared: &Shared, router: &str, topic: &str, flags: u8, mut body: Vec<u8>) {
    let mut state = shared.lock().unwrap();
    let skipped = u64::from(state.strikes(Plant::SeqSkipped));
    let seq = state.seq.entry(router.to_string()).or_default();
    *seq += 1 + skipped;
    let seq = *seq;
    if state.strikes(Plant::EventChanged) {
        let last = body.len() - 3;
        body[last] = if body[last] == b'A' { b'B' } else { b'A' };
    }
    let body = if flags & JSON != 0 {
        format!(r#""body":{}"#, String::from_utf8(body).unwrap())
    } else {
        format!(r#""body_base64":"{}""#, BASE64.encode(body))
    };
    let params = format!(r#""router":"{router}","topic":"{topic}","seq":{seq},{body}"#);
    if flags & RETAIN != 0 {
        state.retained.insert((router.to_string(), topic.to_string()), params.clone());
    }
    let text = notification(&params);
    let dropped = state.strikes(Plant::EventDropped);
    let times = if state.strikes(Plant::EventDoubled) { 2 } else { usize::from(!dropped) };
    for (_, _, writer) in state.watchers.iter().filter(|(_, watched, _)| watched == "*" || watched == router)
    {
        for _ in 0..times {
            let _ = writer.lock().unwrap().write_all(&text);
        }
    }
}

fn notification(params: &str) -> Vec<u8> {
    text_frame(&format!(r#"{{"jsonrpc":"2.0","method":"event","params":{{{params}}}}}"#))
}

fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=0xffff => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// Sends a command; `None` if one-way. The reply, if any, comes within a time that only a failing test needs.
fn command(
    shared: &Shared,
    router: &str,
    name: &str,
    json: bool,
    body: &[u8],
    oneway: bool,
) -> Option<Reply> {
    let (sender, receiver) = channel();
    {
        let mut state = shared.lock().unwrap();
        if oneway && state.strikes(Plant::OnewayDropped) {
            return None;
        }
        let doubled = state.strikes(Plant::CommandDoubled);
        let bound = state.routers.get_mut(router)?;
        for _ in 0..if doubled { 2 } else { 1 } {
            let id = if oneway { 0 } else { bound.next_id };
            bound.next_id += u32::from(!oneway);
            bound.pending.insert(id, sender.clone());
            let mut out = Vec::new();
            frame::encode_message(&mut out, frame::COMMAND, if json { JSON } else { 0 }, id, name, body);
            bound.writer.lock().unwrap().write_all(&out).ok()?;
        }
    }
    if oneway { None } else { receiver.recv_timeout(Duration::from_secs(10)).ok() }
}

/// A command by HTTP, with the faults that are planted there.
fn http_command(shared: &Shared, router: &str, name: &str, json: bool, body: &[u8]) -> Option<Reply> {
    let (mut flags, mut body) = command(shared, router, name, json, body, false)?;
    let mut state = shared.lock().unwrap();
    if state.strikes(Plant::ReplyChanged) {
        body.pop();
        body.push(b'~');
    }
    if state.strikes(Plant::ReplyType) {
        flags ^= JSON;
    }
    Some((flags, body))
}

fn serve_http(shared: &Shared, mut stream: TcpStream) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let (path, json, body) = read_request(&mut stream, &mut bytes)?;
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        let mut parts = path.trim_start_matches("/v1/routers/").split("/commands/");
        let (router, name) = (parts.next()?, parts.next().unwrap_or(""));
        let (status, extra, content_type, answer) = if path == "/v1/census" {
            ("200 OK", "", "application/json", census(shared).into_bytes())
        } else if query == "oneway=1" {
            command(shared, router, name, json, &body, true);
            ("202 Accepted", "", "text/plain", Vec::new())
        } else {
            match http_command(shared, router, name, json, &body) {
                Some((flags, body)) => {
                    let kind =
                        if flags & JSON != 0 { "application/json" } else { "application/octet-stream" };
                    match flags & ERROR {
                        0 => ("200 OK", "", kind, body),
                        _ => ("502 Bad Gateway", "Berth-Error: router\r\n", kind, body),
                    }
                }
                None => {
                    let problem = json!({"code": "router_offline"}).to_string();
                    ("404 Not Found", "", "application/problem+json", problem.into_bytes())
                }
            }
        };
        let length = answer.len();
        let head = format!(
            "HTTP/1.1 {status}\r\n{extra}Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), &answer].concat()).ok()?;
    }
}

/// Path, whether the body is JSON, body.
fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, bool, Vec<u8>)> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        if let httparse::Status::Complete(head) = request.parse(bytes).unwrap() {
            let header = |name: &str| {
                let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
                header.map_or("", |header| std::str::from_utf8(header.value).unwrap())
            };
            let total = head + header("content-length").parse::<usize>().unwrap_or(0);
            if bytes.len() >= total {
                let found = (request.path.unwrap().to_string(), header("content-type") == "application/json");
                let body = bytes[head..total].to_vec();
                bytes.drain(..total);
                return Some((found.0, found.1, body));
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
    }
}

fn census(shared: &Shared) -> String {
    let state = shared.lock().unwrap();
    let off = i64::from(state.plant == Some(Plant::CensusOff));
    let (mut classes, mut reasons) = (json!({}), json!({}));
    for class in ["router", "http", "app", "page"] {
        let (opened, live) = (state.opened.get(class).unwrap_or(&0), state.live.get(class).unwrap_or(&0));
        classes[class] = json!({"opened": opened, "live": live, "unbound": opened - live + off});
        reasons[class] = json!({"peer_closed": opened - live + off});
    }
    json!({"classes": classes, "unbound_by_reason": reasons, "audit": {"ok": true, "dangling": []}})
        .to_string()
}

fn serve_watcher(shared: &Shared, mut stream: TcpStream) -> Option<()> {
    let mut bytes = Vec::new();
    let writer = Arc::new(Mutex::new(stream.try_clone().ok()?));
    read_request(&mut stream, &mut bytes)?;
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        websocket::ACCEPT
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut number = None;
    while let Some((websocket::TEXT, payload)) = read_masked(&mut stream, &mut bytes) {
        let request: Value = serde_json::from_slice(&payload).unwrap();
        let router = request["params"]["router"].as_str().unwrap();
        if request["method"] == "subscribe" {
            let mut state = shared.lock().unwrap();
            let seq = state.seq.get(router).copied().unwrap_or(0);
            let mut result = json!({"subscription": 1});
            if router != "*" {
                result["seq"] = json!(seq);
                result["epoch"] = if seq > 0 { json!("e") } else { Value::Null };
            }
            let mut out =
                text_frame(&json!({"jsonrpc": "2.0", "id": request["id"], "result": result}).to_string());
            for ((of, _), params) in &state.retained {
                if router == "*" || router == of {
                    out.extend(notification(&format!(r#"{params},"retained":true"#)));
                }
            }
            writer.lock().unwrap().write_all(&out).ok()?;
            state.sessions += 1;
            number = Some(state.sessions);
            let watcher = (state.sessions, router.to_string(), writer.clone());
            state.watchers.push(watcher);
            continue;
        }
        let params = &request["params"];
        let (json, body) = match params["body_base64"].as_str() {
            Some(text) => (false, BASE64.decode(text).unwrap()),
            // The text as it was sent: serde_json's Value would sort the keys.
            None => (true, raw_body(&payload)),
        };
        let name = params["name"].as_str().unwrap();
        let (flags, body) = command(shared, router, name, json, &body, false)?;
        let id = &request["id"];
        let answer = match flags & (ERROR | JSON) {
            JSON => format!(r#""result":{{"body":{}}}"#, String::from_utf8(body).unwrap()),
            0 => format!(r#""result":{{"body_base64":"{}"}}"#, BASE64.encode(body)),
            _ => r#""error":{"code":-32003,"message":"m","data":{"code":"router_error","sent":true}}"#
                .to_string(),
        };
        let answer = text_frame(&format!(r#"{{"jsonrpc":"2.0","id":{id},{answer}}}"#));
        writer.lock().unwrap().write_all(&answer).ok()?;
    }
    shared.lock().unwrap().watchers.retain(|(of, _, _)| Some(*of) != number);
    Some(())
}

fn raw_body(request: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(request).unwrap();
    let begin = text.find(r#""body":"#).unwrap() + r#""body":"#.len();
    request[begin..request.len() - 2].to_vec()
}

fn read_masked(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let mut need = |bytes: &mut Vec<u8>, count: usize| {
        while bytes.len() < count {
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk) {
                Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
                _ => return None,
            }
        }
        Some(())
    };
    need(bytes, 2)?;
    assert_ne!(bytes[1] & 0x80, 0, "a client's frame is masked");
    let (head, len) = match bytes[1] & 0x7f {
        126 => {
            need(bytes, 4)?;
            (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]])))
        }
        127 => {
            need(bytes, 10)?;
            (10, u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize)
        }
        len => (2, usize::from(len)),
    };
    need(bytes, head + 4 + len)?;
    let mask: Vec<u8> = bytes[head..head + 4].to_vec();
    let payload =
        bytes[head + 4..head + 4 + len].iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
    let opcode = bytes[0] & 0x0f;
    bytes.drain(..head + 4 + len);
    Some((opcode, payload))
}
