//! A gateway just good enough to pass streams on, with threads and locks, and with faults that can be planted: so that the
//! consumers and routers of a scenario are seen to notice each of them.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use loadgen::frame::{self, ACK, CANCEL, END, ERROR, HELLO, ITEM, JSON, OPEN, PING, PONG, WELCOME};

/// What the gateway does wrong, with the tenth row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plant {
    None,
    RowChanged,
    RowDoubled,
    RowDropped,
    /// The router's own line ends reach the consumer.
    LineEndKept,
    /// All rows, but no last chunk.
    CutShort,
    /// The last chunk, but not all rows.
    EndedEarly,
    AckOfWhatWasNotSent,
    /// A second window for what is still asked for.
    OpenedTwice,
    /// After a gap a row is asked for that the consumer has had.
    AskedAgain,
}

/// One frame of a stream: kind, flags, body.
type Said = (u8, u8, Vec<u8>);

struct Bound {
    session: u64,
    writer: TcpStream,
    next_id: u32,
    streams: HashMap<u32, Sender<Said>>,
}

#[derive(Default)]
struct State {
    sessions: u64,
    routers: HashMap<String, Bound>,
}

type Shared = Arc<Mutex<State>>;

/// A running gateway; it lives as long as the test's process.
pub struct Gateway {
    pub router: SocketAddr,
    pub http: SocketAddr,
}

impl Gateway {
    pub fn start(plant: Plant) -> Self {
        let shared = Shared::default();
        let (of_routers, of_consumers) = (shared.clone(), shared);
        Self {
            router: listen(move |stream| serve_router(&of_routers, stream)),
            http: listen(move |stream| serve_consumer(&of_consumers, stream, plant)),
        }
    }
}

fn listen(serve: impl Fn(TcpStream) -> Option<()> + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_nodelay(true).unwrap();
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn send(mut to: &TcpStream, kind: u8, flags: u8, id: u32, name: &str, body: &[u8]) -> Option<()> {
    let mut out = Vec::new();
    frame::encode(&mut out, kind, flags, id, name, body);
    to.write_all(&out).ok()
}

/// Passes the frames of each stream on to whoever waits for them.
fn serve_router(shared: &Shared, mut stream: TcpStream) -> Option<()> {
    const LIMITS: &str = r#"{"heartbeat_interval_ms":60000,"heartbeat_timeout_ms":20000,"max_message_bytes":1048576,"max_fragment_bytes":16384}"#;
    let (mut bytes, mut chunk, mut me) = (Vec::new(), [0; 16_384], None);
    'session: loop {
        while let Some((frame, used)) = frame::decode(&bytes).unwrap() {
            let mut state = shared.lock().unwrap();
            match frame.kind {
                HELLO => {
                    state.sessions += 1;
                    let session = state.sessions;
                    send(&stream, WELCOME, JSON, 1, &format!("s{session}"), LIMITS.as_bytes())?;
                    let writer = stream.try_clone().ok()?;
                    let bound = Bound { session, writer, next_id: 1, streams: HashMap::new() };
                    state.routers.insert(frame.name.to_string(), bound);
                    me = Some((frame.name.to_string(), session));
                }
                PING => send(&stream, PONG, 0, frame.id, "", frame.body)?,
                ITEM | END => {
                    let bound = me.as_ref().and_then(|(id, _)| state.routers.get(id));
                    if let Some(sender) = bound.and_then(|bound| bound.streams.get(&frame.id)) {
                        // Nobody takes the late ones of a stream that was cancelled.
                        let _ = sender.send((frame.kind, frame.flags, frame.body.to_vec()));
                    }
                }
                kind => panic!("a frame of kind {kind:#04x}"),
            }
            drop(state);
            bytes.drain(..used);
        }
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
            _ => break 'session,
        }
    }
    let (id, session) = me?;
    let mut state = shared.lock().unwrap();
    if state.routers.get(&id).is_some_and(|bound| bound.session == session) {
        state.routers.remove(&id);
    }
    Some(())
}

/// What a consumer asked for.
struct Wanted {
    router: String,
    name: String,
    window: Vec<u8>,
    query: String,
    next: u64,
}

impl Wanted {
    fn parse(head: &str) -> Option<Self> {
        let path = head.strip_prefix("GET /v1/routers/")?.split(' ').next()?;
        let (path, query) = path.split_once('?')?;
        let (router, name) = path.split_once("/streams/")?;
        let value = |key: &str| {
            query.split('&').find_map(|part| part.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok())
        };
        let own = ["max_messages=", "max_bytes=", "from="];
        let others: Vec<&str> =
            query.split('&').filter(|part| !own.iter().any(|own| part.starts_with(own))).collect();
        let window =
            [value("max_messages")? as u32, value("max_bytes")? as u32].map(u32::to_be_bytes).concat();
        Some(Self {
            router: router.into(),
            name: name.into(),
            window,
            query: others.join("&"),
            next: value("from")?,
        })
    }

    /// OPEN, as soon as the router is there.
    fn open(&self, shared: &Shared, from: u64) -> (TcpStream, u32, Receiver<Said>) {
        loop {
            let mut state = shared.lock().unwrap();
            let Some(bound) = state.routers.get_mut(&self.router) else {
                drop(state);
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            let (id, (sender, receiver)) = (bound.next_id, channel());
            bound.next_id += 1;
            bound.streams.insert(id, sender);
            let body = [&self.window[..], &from.to_be_bytes(), self.query.as_bytes()].concat();
            // A router that is going comes back: the receiver tells.
            let _ = send(&bound.writer, OPEN, 0, id, &self.name, &body);
            return (bound.writer.try_clone().unwrap(), id, receiver);
        }
    }
}

fn serve_consumer(shared: &Shared, mut stream: TcpStream, plant: Plant) -> Option<()> {
    let (mut head, mut chunk) = (Vec::new(), [0; 4096]);
    while !head.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        head.extend_from_slice(&chunk[..count]);
    }
    let mut wanted = Wanted::parse(std::str::from_utf8(&head).ok()?)?;
    let (mut rows, mut begun) = (0, false);
    let struck = |now: bool, which: Plant| now && plant == which;
    'open: loop {
        let from = wanted.next - u64::from(struck(rows > 10, Plant::AskedAgain));
        let (router, id, said) = wanted.open(shared, from);
        let say = |kind, body: &[u8]| send(&router, kind, 0, id, "", body);
        loop {
            // The sender is dropped with the router's session.
            let Ok((kind, flags, body)) = said.recv() else { continue 'open };
            let (number, row) = body.split_first_chunk::<8>()?;
            let number = u64::from_be_bytes(*number);
            if number != wanted.next {
                say(CANCEL, b"");
                continue 'open;
            }
            if !std::mem::replace(&mut begun, true) {
                let of = if flags & JSON != 0 { "application/x-ndjson" } else { "application/octet-stream" };
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Type: {of}\r\nTransfer-Encoding: chunked\r\n\r\n");
                stream.write_all(head.as_bytes()).ok()?;
            }
            if kind == END && flags & ERROR == 0 {
                let last: &[u8] = if plant == Plant::CutShort { b"" } else { b"0\r\n\r\n" };
                return stream.write_all(last).ok();
            }
            rows += 1;
            let tenth = rows == 10;
            let row = delivered(row, flags & JSON != 0, tenth && plant == Plant::RowChanged, plant);
            for _ in 0..match plant {
                Plant::RowDoubled if tenth => 2,
                Plant::RowDropped if tenth => 0,
                _ => 1,
            } {
                let chunk = [format!("{:x}\r\n", row.len()).as_bytes(), &row, b"\r\n"].concat();
                stream.write_all(&chunk).ok()?;
            }
            wanted.next += 1;
            match plant {
                Plant::EndedEarly if tenth => return stream.write_all(b"0\r\n\r\n").ok(),
                Plant::AckOfWhatWasNotSent if tenth => say(ACK, &(number + 5000).to_be_bytes()),
                Plant::OpenedTwice if tenth => continue 'open,
                _ => say(ACK, &number.to_be_bytes()),
            };
        }
    }
}

fn delivered(row: &[u8], json: bool, change: bool, plant: Plant) -> Vec<u8> {
    let mut row = row.to_vec();
    if change {
        let last = row.len() - 3;
        row[last] ^= 1;
    }
    if !json {
        return [&(row.len() as u32).to_be_bytes()[..], &row].concat();
    }
    if plant != Plant::LineEndKept {
        row.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
    }
    row.push(b'\n');
    row
}
