//! Contract section 3 and Back-pressure of section 1: peers that send far more than one read, and take the answers later.

use std::time::Duration;

use conformance::calls::{Census, barrier, wait_for_live};
use conformance::daemon::{Daemon, eventually};
use conformance::frame::{Frame, kind};
use conformance::http::{Client, PATIENCE, encode_request};
use conformance::kernel::{Tcp, settled};
use conformance::router::{Dial, Router};
use conformance::websocket::{Message, TEXT, WebSocket, encode_frame};
use serde_json::{Value, json};

/// signal(7) of Linux on x86 and ARM.
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

/// A caller whose kernel takes little while it does not read.
fn small_caller(daemon: &Daemon) -> Client {
    let dial = Dial { receive_buffer: Some(4096), ..Dial::default() };
    Client::over(dial.stream(daemon.http).expect("connect"))
}

/// Waits until more than one read of the daemon stands unread in its kernel.
#[track_caller]
fn wait_for_unread(client: &Client) {
    eventually("the daemon reads no more", PATIENCE, || {
        let end = Tcp::other_end(client.stream())?;
        (end.receive_queue > 65_536).then_some(())
    });
}

#[test]
fn hundreds_of_kilobytes_of_awaited_commands_are_answered_in_order() {
    const COUNT: usize = 3000;
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut client = Client::connect(daemon.http);
    let mut sender = Client::over(client.stream().try_clone().expect("a second handle"));
    let body = |n: usize| format!("{n:05}");
    let requests: Vec<u8> = (0..COUNT)
        .flat_map(|n| {
            let target = "/v1/routers/hub/commands/echo?timeout_ms=60000";
            encode_request("127.0.0.1", "POST", target, &[], body(n).as_bytes())
        })
        .collect();
    assert!(requests.len() > 250_000, "{} bytes", requests.len());
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(&requests));
        let first = router.recv_command();
        wait_for_unread(&client);
        router.send(&Frame::reply(first.id, first.body));
        let _echo = router.echo();
        for n in 0..COUNT {
            let response = client.response();
            assert_eq!((response.status, response.text()), (200, body(n).as_str()));
        }
    });
    wait_for_live(&daemon, "pending_command", 0, PATIENCE);
    Census::audited(&daemon).assert_balanced();
}

#[test]
fn hundreds_of_kilobytes_of_calls_are_answered_in_order_once_they_are_taken() {
    const COUNT: u64 = 4000;
    let daemon = Daemon::start("websocket.app.max_queued_bytes = 400000");
    // Answers are several times as long as their calls.
    let _routers: Vec<Router> = (0..8).map(|n| Router::bind(daemon.router, &format!("router-{n}"))).collect();
    let mut socket = WebSocket::connect_small(daemon.app);
    let mut sender = Client::over(socket.client().stream().try_clone().expect("a second handle"));
    let calls: Vec<u8> = (0..COUNT)
        .flat_map(|id| {
            let call = json!({"jsonrpc": "2.0", "id": id, "method": "routers", "params": {}});
            encode_frame(0x80 | TEXT, [1, 2, 3, 4], call.to_string().as_bytes())
        })
        .collect();
    assert!(calls.len() > 250_000, "{} bytes", calls.len());
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(&calls));
        wait_for_unread(socket.client());
        settled(socket.client().stream());
        for id in 0..COUNT {
            let Message::Text(text) = socket.receive() else { panic!("no answer to call {id}") };
            let answer: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(
                (&answer["id"], answer["result"]["routers"].as_array().map(Vec::len)),
                (&json!(id), Some(8))
            );
        }
    });
    assert_eq!(Census::of(&daemon).reason("app", "slow_consumer"), 0);
}

#[test]
fn others_have_their_turn_before_all_the_calls_of_one_client_are_carried_out() {
    const COUNT: usize = 600;
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let mut other = Client::connect(daemon.http);
    let mut socket = WebSocket::connect(daemon.app);
    let carried_out = |other: &mut Client| {
        let clients = other.response().json();
        clients["clients"][0]["messages_in"].as_u64().unwrap_or_else(|| panic!("no number in {clients}"))
    };
    other.send_request("GET", "/v1/clients", &[], b"");
    let before = carried_out(&mut other);
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "routers", "params": {"limit": 1000}}).to_string();
    let calls = encode_frame(0x80 | TEXT, [1, 2, 3, 4], call.as_bytes()).repeat(COUNT);
    assert!(calls.len() < 65_536, "{} bytes are not one read", calls.len());
    // All three are ready when the daemon goes on, the greedy one first.
    daemon.signal(SIGSTOP);
    socket.client().send(&calls);
    other.send_request("GET", "/v1/clients", &[], b"");
    router.send(&Frame::ping("?"));
    daemon.signal(SIGCONT);
    let meanwhile = carried_out(&mut other) - before;
    assert!(meanwhile <= COUNT as u64 / 2, "{meanwhile} calls before it was somebody else's turn");
    assert_eq!(router.recv(), Frame::new(kind::PONG).body("?"));
    for _ in 0..COUNT {
        assert!(matches!(socket.receive(), Message::Text(_)));
    }
}

#[test]
fn a_fin_in_the_same_segment_as_the_request_is_a_hang_up() {
    let daemon = Daemon::start("");
    let _router = Router::bind(daemon.router, "hub");
    daemon.signal(SIGSTOP);
    let mut client = Client::connect(daemon.http);
    client.send_request("POST", "/v1/routers/hub/commands/x?timeout_ms=600000", &[], b"hello");
    client.finish_sending();
    daemon.signal(SIGCONT);
    client.set_patience(Duration::from_secs(5));
    // Nobody waits for an answer, and none comes.
    client.expect_close();
    wait_for_live(&daemon, "pending_command", 0, Duration::from_secs(5));
    Census::audited(&daemon).assert_balanced();
}

#[test]
fn requests_before_a_fin_are_all_answered() {
    const COUNT: usize = 60;
    let daemon = Daemon::start("http.max_queued_bytes = 65536");
    let _routers: Vec<Router> =
        (0..50).map(|n| Router::bind(daemon.router, &format!("router-{n}"))).collect();
    let mut client = small_caller(&daemon);
    for _ in 0..COUNT {
        client.send_request("GET", "/v1/routers?limit=1000", &[], b"");
    }
    client.finish_sending();
    // The daemon has them all, and carries out no more before its answers are taken.
    settled(client.stream());
    barrier(daemon.http);
    for n in 0..COUNT {
        let response = client.response_to("GET").unwrap_or_else(|error| panic!("answer {n}: {error}"));
        assert_eq!(response.json()["routers"].as_array().map(Vec::len), Some(50));
    }
    client.expect_close();
}

#[test]
fn a_100_does_not_overtake_the_answer_before_it() {
    let daemon = Daemon::start("");
    let _router = Router::bind(daemon.router, "hub").echo();
    let mut client = Client::connect(daemon.http);
    client.send(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\
         POST /v1/routers/hub/commands/echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
         Content-Length: 5\r\n\r\n",
    );
    assert_eq!([client.response().status, client.response().status], [200, 100]);
    client.send("hello");
    assert_eq!(client.response().text(), "hello");
}
