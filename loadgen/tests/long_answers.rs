//! What reads long answers, against a server that says what a test tells it to: what is right is taken, what is wrong is seen.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use loadgen::command::Wish;
use loadgen::fleet_call::Fleet;
use loadgen::options::Addresses;
use loadgen::payload::{self, CommandFields, EventFields};
use loadgen::reactor::Reactor;
use loadgen::scenario::client::Client;
use loadgen::scenario::event_stream::{Count, EventStream, Filter};
use loadgen::scenario::fleet_caller::{Asked, Call, FleetCaller};
use loadgen::scenario::world::World;

const SEED: u64 = 3;

/// Answers one request with `body` in chunks of seven bytes, and with the last chunk if `whole`; then it waits for FIN.
fn server(content_type: &'static str, body: Vec<u8>, whole: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 65_536];
        let _ = stream.read(&mut request).unwrap();
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n")
                .into_bytes();
        for piece in body.chunks(7) {
            answer.extend([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        }
        answer.extend_from_slice(if whole { b"0\r\n\r\n" } else { b"" });
        // The client may have refused it by then.
        let _ = stream.write_all(&answer);
        if whole {
            let _ = stream.read(&mut request);
        }
    });
    address
}

/// Lets `client` read until `done` or an error. Returns the first error.
fn read(
    world: &mut World,
    client: Client,
    done: impl Fn(&Client, &World) -> bool,
) -> (Option<String>, Reactor<Client>) {
    let mut reactor = Reactor::new().unwrap();
    reactor.add(client, world.addresses.http, 0);
    let until = Instant::now() + Duration::from_secs(20);
    while world.errors.total() == 0 && !reactor.clients().all(|client| done(client, world)) {
        assert!(Instant::now() < until, "not within 20 s");
        reactor.turn(world, Duration::from_millis(10)).unwrap();
    }
    let first = world.errors.0.iter().next().map(|(kind, error)| format!("{kind}: {}", error.first));
    (first, reactor)
}

fn world(http: SocketAddr) -> World {
    let addresses = Addresses { http, ..Addresses::default() };
    let mut world = World::new(SEED, addresses, 3);
    // The third is away.
    world.routers[..2].iter_mut().for_each(|facts| facts.sessions = 1);
    world
}

// --- A command for a fleet ------------------------------------------------------------------------------------------

const NONCE: u64 = 9;

fn call() -> Call {
    let fleet =
        Fleet { seed: SEED, reply_bytes: (90, 200), big_share: 0.0, fail_share: 0.0, mute_share: 0.0 };
    let ids = ["r-00000", "r-00001", "r-00002", "no id"].map(String::from).to_vec();
    Call {
        asked: Asked::These(ids),
        fleet,
        nonce: NONCE,
        json: false,
        payload_bytes: 40,
        timeout: Duration::from_secs(5),
        may_exceed: false,
        may_be_late: false,
    }
}

/// The line of a router that answered.
fn answered(router: u32) -> String {
    let part = call().fleet.part(router, NONCE);
    assert_eq!(part.wish, Wish::Answer);
    let fields = |reply_bytes, reply_json| CommandFields { nonce: NONCE, reply_bytes, reply_json };
    let sent = payload::command(SEED, &fields(0, false), false, 40);
    let id = format!("r-{router:05}");
    let reply = payload::reply(SEED, &id, &fields(part.reply_bytes, part.reply_json), &sent);
    let body = match part.reply_json {
        true => format!(r#""body":{}"#, String::from_utf8(reply).unwrap()),
        false => format!(r#""body_base64":"{}""#, BASE64.encode(reply)),
    };
    format!(r#"{{"router":"{id}","status":200,{body}}}"#)
}

const OFFLINE: &str = r#"{"router":"r-00002","status":404,"code":"router_offline","sent":false}"#;
const NO_ID: &str = r#"{"router":"no id","status":400,"code":"bad_request","sent":false}"#;

fn fleet_error(lines: &[&str], whole: bool) -> Option<String> {
    let body = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let mut world = world(server("application/x-ndjson", body.into_bytes(), whole));
    (0..2).for_each(|router| assert!(world.fleet_reached.enter(NONCE, router)));
    let caller = Client::FleetCaller(Box::new(FleetCaller::new(call())));
    let done =
        |client: &Client, _: &World| matches!(client, Client::FleetCaller(caller) if caller.outcome.whole);
    read(&mut world, caller, done).0
}

#[test]
fn exactly_one_line_for_each_router_is_right() {
    let (first, second) = (answered(0), answered(1));
    assert_eq!(fleet_error(&[&second, NO_ID, OFFLINE, &first], true), None);
}

#[test]
fn lines_that_are_wrong_are_seen() {
    let (first, second) = (answered(0), answered(1));
    let late = r#"{"router":"r-00001","status":504,"code":"deadline_exceeded","sent":true}"#;
    let limit = r#"{"router":"r-00001","status":503,"code":"limit_exceeded","sent":true}"#;
    let mut changed = second.clone();
    // Well within the body, whatever its form.
    let at = changed.len() - 10;
    let other = if changed.as_bytes()[at] == b'A' { "B" } else { "A" };
    changed.replace_range(at..at + 1, other);
    for (what, lines, whole) in [
        ("one is missing", vec![&first[..], &second, OFFLINE], true),
        ("one comes twice", vec![&first, &first, &second, OFFLINE, NO_ID], true),
        ("one that was not asked", vec![r#"{"router":"x","status":404,"code":"router_offline"}"#], true),
        ("a reply that was changed", vec![&first, &changed, OFFLINE, NO_ID], true),
        ("the reply of another", vec![&first.replace("r-00000", "r-00001")], true),
        ("late without a reason", vec![&first, late, OFFLINE, NO_ID], true),
        ("no room without a reason", vec![&first, limit, OFFLINE, NO_ID], true),
        ("one that is away answers", vec![&first, &second, &OFFLINE.replace("404", "200"), NO_ID], true),
        ("cut", vec![&first, &second, OFFLINE, NO_ID], false),
    ] {
        let error = fleet_error(&lines, whole);
        assert!(error.is_some_and(|error| error.starts_with("fleet_caller_")), "{what}");
    }
}

// --- Events ---------------------------------------------------------------------------------------------------------

/// An event as it comes: `id` counts all, `n` those of its router, which have `seq` from 5.
fn event(id: u64, router: u32, n: u64) -> String {
    let body = payload::event(router, &EventFields { seed: SEED, n, sent_ns: 1 }, true, 100);
    let (seq, body) = (n + 4, String::from_utf8(body).unwrap());
    format!(
        "event: load\nid: run-{id}\ndata: {{\"router\":\"r-{router:05}\",\"topic\":\"load\",\"seq\":{seq},\"body\":{body}}}\n\n"
    )
}

const GAP: &str = "event: berth.gap\nid: run-9\ndata: {\"gap\":true}\n\n";

/// The first error, and what was taken until then. The server closes, so that there is one in the end.
fn follow(blocks: &[String], with: impl Fn(&mut EventStream)) -> (String, Count) {
    let mut world = world(server("text/event-stream", blocks.concat().into_bytes(), false));
    let mut stream = EventStream::new(1, Filter::default());
    with(&mut stream);
    let (error, reactor) = read(&mut world, Client::EventStream(Box::new(stream)), |_, _| false);
    let Some(Client::EventStream(stream)) = reactor.clients().next() else { panic!("it is one") };
    (error.unwrap(), stream.count)
}

#[test]
fn events_in_order_are_right() {
    let blocks = [":\n\n".into(), event(7, 0, 1), event(8, 1, 1), ":\n\n".into(), event(9, 0, 2)];
    let (error, count) = follow(&blocks, |_| {});
    assert!(error.starts_with("event_stream_closed"), "{error}");
    assert_eq!(count.events, 3);
}

#[test]
fn events_that_are_wrong_are_seen() {
    let first = event(7, 0, 1);
    for (what, next) in [
        ("doubled", first.clone()),
        ("one of all is missing", event(9, 0, 2)),
        ("one of its router is missing", event(8, 0, 3)),
        ("its number went back", event(6, 0, 2)),
        ("another run", event(8, 0, 2).replace("run-", "other-")),
        ("changed", event(8, 0, 2).replace("fill\":\"", "fill\":\"A")),
        ("another seq", event(8, 0, 2).replace("\"seq\":6", "\"seq\":7")),
        ("retained", event(8, 0, 2).replace("\"seq\"", "\"retained\":true,\"seq\"")),
        ("presence", event(8, 0, 2).replace("load", "$presence")),
    ] {
        let (error, count) = follow(&[first.clone(), next], |_| {});
        assert!(error.starts_with("event_stream_breach"), "{what}: {error}");
        assert_eq!(count.events, 1, "{what}");
    }
}

#[test]
fn a_gap_must_be_told_where_there_is_one_and_not_elsewhere() {
    let behind = [GAP.to_string(), event(10, 0, 5), event(11, 0, 6)];
    let (error, count) = follow(&behind, |stream| stream.claim = Some("nobody-1"));
    assert!(error.starts_with("event_stream_closed"), "{error}");
    assert_eq!((count.events, count.gaps, count.unfounded_gaps), (2, 1, 0));
    let (error, _) = follow(&behind[1..], |stream| stream.claim = Some("nobody-1"));
    assert!(error.contains("before the gap was told"), "{error}");
    let (_, count) = follow(&behind, |_| {});
    assert_eq!(count.unfounded_gaps, 1);
}
