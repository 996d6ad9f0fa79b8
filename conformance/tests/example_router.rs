//! `docs/examples/router.py` does what `docs/router-protocol.md` says of it: commands, and a stream that outlives its session.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use conformance::calls::{Census, command, router};
use conformance::daemon::{Daemon, eventually};
use conformance::http::{self, Client, PATIENCE};
use socket2::{Domain, Socket, Type};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/router.py");

struct Example(Child);

impl Example {
    fn run(daemon: &Daemon) -> Self {
        let arguments = ["-B", EXAMPLE, &daemon.router.to_string(), "hub"];
        let child = Command::new("python3").args(arguments).stdout(Stdio::null()).spawn();
        let example = Self(child.expect("python3"));
        eventually("the example is bound", PATIENCE, || router(daemon.http, "hub"));
        example
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("the example runs until it is ended");
    }
}

/// A connection whose kernel holds little of what is sent to it.
fn small(address: SocketAddr) -> Client {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("SO_RCVBUF");
    socket.connect(&address.into()).expect("connect");
    Client::over(socket.into())
}

#[test]
fn it_answers_commands_and_streams() {
    let daemon = Daemon::start("");
    let _example = Example::run(&daemon);
    assert_eq!(command(daemon.http, "hub", "echo", 10_000, b"hello").body, b"hello");
    let rows = http::get(daemon.http, "/v1/routers/hub/streams/count?from=1&to=3");
    assert_eq!((rows.status, rows.text()), (200, "{\"n\":1}\n{\"n\":2}\n"));
    for (target, detail) in
        [("nope", "there is no stream of that name"), ("count?to=x", "to: a whole number")]
    {
        let refused = http::get(daemon.http, &format!("/v1/routers/hub/streams/{target}"));
        assert_eq!(refused.problem(502, "router_error")["detail"], detail);
    }
}

#[test]
fn its_stream_goes_on_when_it_is_thrown_out() {
    let daemon = Daemon::start("");
    let _example = Example::run(&daemon);
    let mut consumer = small(daemon.http);
    consumer.send_request("GET", "/v1/routers/hub/streams/count?to=50000&max_messages=100", &[], b"");
    let session = |what| router(daemon.http, "hub").map(|router| router[what].clone());
    eventually("rows come", PATIENCE, || session("messages_in")?.as_u64().filter(|rows| *rows >= 100));
    let before = session("session").expect("it is bound");
    assert_eq!(http::request(daemon.http, "DELETE", "/v1/routers/hub", &[], b"").status, 204);
    eventually("it is back", PATIENCE, || session("session").filter(|after| *after != before));
    let rows = consumer.response();
    let expected: String = (0..50_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    assert!(rows.status == 200 && rows.text() == expected, "{} bytes of rows", rows.body.len());
    let census = Census::of(&daemon);
    assert_eq!((census.live("stream"), census.count("stream", "opened")), (0, 1));
}
