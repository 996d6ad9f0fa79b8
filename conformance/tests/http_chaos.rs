//! Everything at once, with limits small enough to be met all the time: after each step no table names the dead and
//! every count adds up; at the end nothing is left. What is answered is the business of the other tests.

mod random;

use std::time::Duration;

use conformance::calls::{Census, wait_for_live};
use conformance::daemon::Daemon;
use conformance::frame::{Command, Frame, flag};
use conformance::http::{Client, encode_request, is_timeout, request};
use conformance::router::{Dial, Router};
use conformance::websocket::{HANDSHAKE, WebSocket};
use random::{Random, rounds};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(20);

const LIMITS: &str = "
router.max_pending = 3
router.max_queued_bytes = 200000
router.notsent_lowat_bytes = 16384
router.heartbeat.interval_s = 0.5
router.heartbeat.timeout_s = 0.3
http.header_timeout_s = 2
http.body_timeout_s = 2
http.idle_timeout_s = 2
http.max_queued_bytes = 100000
websocket.app.notsent_lowat_bytes = 16384
websocket.app.max_pending = 2
websocket.app.max_subscriptions = 3
websocket.app.max_queued_bytes = 150000
websocket.app.heartbeat.interval_s = 0.5
websocket.app.heartbeat.timeout_s = 0.3
memory.max_buffered_bytes = 1000000
shadow.keep_s = 0.2
shadow.max_offline = 3
shadow.max_topics = 3
shadow.max_bytes = 400000
shadow.max_total_bytes = 600000
queue.soft_s = 0.2
close_grace_s = 0.2
";

/// Everybody who is connected. Nobody waits for anything longer than a moment.
struct World<'a> {
    daemon: &'a Daemon,
    random: Random,
    routers: Vec<Router>,
    callers: Vec<Client>,
    clients: Vec<WebSocket>,
}

impl World<'_> {
    fn chance(&mut self, one_in: usize) -> bool {
        self.random.below(one_in) == 0
    }

    fn router_id(&mut self) -> String {
        format!("r{}", self.random.below(4))
    }

    fn length(&mut self) -> usize {
        [0, 10, 1000, 20_000, 150_000][self.random.below(5)]
    }

    fn timeout(&mut self) -> usize {
        [1, 20, 200, 60_000][self.random.below(4)]
    }

    fn step(&mut self) {
        match self.random.below(24) {
            0 => self.router_comes(),
            1..=4 => self.routers_read(),
            5..=8 => self.router_sends_an_event(),
            9..=12 => self.caller_sends_a_command(),
            13 => self.callers_read(),
            14 => self.client_comes(),
            15..=18 => self.client_calls(),
            19 => self.clients_read(),
            20 => self.operator_acts(),
            21 => self.router_goes(),
            22 => self.caller_goes(),
            _ => self.client_goes(),
        }
    }

    fn router_comes(&mut self) {
        let receive_buffer = self.chance(2).then_some(4096);
        let mut router = Dial { receive_buffer, ..Dial::default() }.connect(self.daemon.router);
        router.set_patience(Duration::from_millis(1));
        router.stream().set_write_timeout(Some(Duration::from_millis(5))).expect("write timeout");
        let id = self.router_id();
        router.send(&Frame::hello(&id));
        let _ = router.try_recv();
        self.routers.push(router);
    }

    /// Routers read for a moment and reply to some of what they got, to some of it twice, to some of it never.
    fn routers_read(&mut self) {
        let mut routers = std::mem::take(&mut self.routers);
        routers.retain_mut(|router| self.chance(3) || self.router_reads(router));
        self.routers = routers;
    }

    /// Whether the session still lives.
    fn router_reads(&mut self, router: &mut Router) -> bool {
        loop {
            match router.try_command() {
                Ok(Command::Whole(command)) => {
                    for _ in 0..self.random.below(3) {
                        let flags = [0, flag::JSON, flag::ERROR][self.random.below(3)];
                        let body = vec![b'1'; self.length()];
                        router.send_message(&Frame::reply(command.id.max(1), body).flags(flags));
                    }
                }
                Ok(Command::Aborted(_)) => {}
                Err(error) => return is_timeout(&error),
            }
        }
    }

    fn router_sends_an_event(&mut self) {
        let topic = ["a", "b", "c", "d/e"][self.random.below(4)];
        let flags = [0, flag::JSON, flag::JSON | flag::RETAIN, flag::RETAIN][self.random.below(4)];
        let event = Frame::event(topic, vec![b'1'; self.length()]).flags(flags);
        if let Some(n) = pick(&mut self.random, &self.routers) {
            self.routers[n].send_message(&event);
        }
    }

    fn router_goes(&mut self) {
        let Some(n) = pick(&mut self.random, &self.routers) else { return };
        let mut router = self.routers.swap_remove(n);
        match self.random.below(4) {
            0 => router.reset(),
            1 => router.send(&Frame::bye("done")),
            2 => router.send(&Frame::new(0x7f)),
            _ => drop(router),
        }
    }

    fn caller_sends_a_command(&mut self) {
        if self.callers.is_empty() || self.chance(2) {
            let receive_buffer = self.chance(2).then_some(4096);
            let dial = Dial { receive_buffer, ..Dial::default() };
            let mut client = Client::over(dial.stream(self.daemon.http).expect("connect"));
            client.stream().set_write_timeout(Some(Duration::from_millis(5))).expect("write timeout");
            client.set_patience(Duration::from_millis(1));
            self.callers.push(client);
        }
        let option =
            if self.chance(3) { "oneway=1".to_owned() } else { format!("timeout_ms={}", self.timeout()) };
        let target = format!("/v1/routers/{}/commands/x?{option}", self.router_id());
        let body = vec![b'x'; self.length()];
        let bytes = encode_request("localhost", "POST", &target, &[], &body);
        let end = if self.chance(30) { self.random.below(bytes.len()) } else { bytes.len() };
        let n = self.random.below(self.callers.len());
        self.callers[n].send(&bytes[..end]);
    }

    fn callers_read(&mut self) {
        self.callers.retain_mut(|caller| {
            loop {
                if let Err(error) = caller.response_to("POST") {
                    return is_timeout(&error);
                }
            }
        });
    }

    fn caller_goes(&mut self) {
        let Some(n) = pick(&mut self.random, &self.callers) else { return };
        let mut caller = self.callers.swap_remove(n);
        match self.random.below(3) {
            0 => socket2::SockRef::from(caller.stream()).set_linger(Some(Duration::ZERO)).expect("SO_LINGER"),
            1 => caller.send("nonsense\r\n\r\n"),
            _ => {}
        }
    }

    fn client_comes(&mut self) {
        let receive_buffer = self.chance(2).then_some(4096);
        let dial = Dial { receive_buffer, ..Dial::default() };
        let address = if self.chance(3) { self.daemon.page } else { self.daemon.app };
        let mut client = Client::over(dial.stream(address).expect("connect"));
        client.send_request("GET", "/ws", HANDSHAKE, b"");
        let mut socket = WebSocket::upgraded(client).expect("an upgrade");
        socket.client().stream().set_write_timeout(Some(Duration::from_millis(5))).expect("write timeout");
        socket.set_patience(Duration::from_millis(1));
        self.clients.push(socket);
    }

    fn call(&mut self) -> Value {
        let router = if self.chance(4) { "*".to_owned() } else { self.router_id() };
        let topic = ["*", "a", "b", "$presence"][self.random.below(4)];
        let (method, params) = match self.random.below(6) {
            0 | 1 => ("subscribe", json!({"router": router, "topic": topic})),
            2 => ("unsubscribe", json!({"subscription": self.random.below(5)})),
            3 => ("routers", json!({"limit": 1 + self.random.below(5)})),
            _ => {
                let body = "x".repeat(self.length() % 60_000);
                let (timeout, oneway) = (self.timeout(), self.chance(4));
                let router = self.router_id();
                (
                    "command",
                    json!({"router": router, "name": "x", "body": body, "timeout_ms": timeout, "oneway": oneway}),
                )
            }
        };
        json!({"jsonrpc": "2.0", "id": self.random.below(1000), "method": method, "params": params})
    }

    fn client_calls(&mut self) {
        let Some(n) = pick(&mut self.random, &self.clients) else { return };
        let message = match self.random.below(4) {
            0 => (0..1 + self.random.below(5)).map(|_| self.call()).collect(),
            _ => self.call(),
        };
        self.clients[n].send_json(&message);
    }

    fn clients_read(&mut self) {
        let mut clients = std::mem::take(&mut self.clients);
        clients.retain_mut(|client| {
            if self.chance(3) {
                return true;
            }
            loop {
                if let Err(error) = client.try_receive() {
                    return is_timeout(&error);
                }
            }
        });
        self.clients = clients;
    }

    fn client_goes(&mut self) {
        let Some(n) = pick(&mut self.random, &self.clients) else { return };
        let mut socket = self.clients.swap_remove(n);
        match self.random.below(4) {
            0 => socket.send_close(1000, ""),
            1 => socket.send_frame(0xff, b"?"),
            2 => socket2::SockRef::from(socket.client().stream())
                .set_linger(Some(Duration::ZERO))
                .expect("SO_LINGER"),
            _ => {}
        }
    }

    fn operator_acts(&mut self) {
        let id = self.router_id();
        let delete = |path: String| request(self.daemon.http, "DELETE", &path, &[], b"").status;
        let status = match self.random.below(3) {
            0 => delete(format!("/v1/routers/{id}")),
            1 => delete(format!("/v1/routers/{id}/shadow")),
            _ => {
                let list = request(self.daemon.http, "GET", "/v1/clients?limit=1", &[], b"").json();
                let client = list["clients"][0]["client"].as_str().unwrap_or("none").to_owned();
                delete(format!("/v1/clients/{client}"))
            }
        };
        assert!(matches!(status, 204 | 404), "{status}");
    }
}

fn pick<T>(random: &mut Random, of: &[T]) -> Option<usize> {
    (!of.is_empty()).then(|| random.below(of.len()))
}

#[track_caller]
fn assert_sound(daemon: &Daemon) -> Census {
    let census = Census::audited(daemon);
    census.assert_balanced();
    assert_eq!(census.0["audit"]["dangling"], json!([]), "{}", census.0);
    assert_eq!(census.0["audit"]["ok"], true, "{}", census.0);
    census
}

#[test]
fn nothing_dangles_and_nothing_stays() {
    let daemon = Daemon::start(LIMITS);
    let random = Random::new();
    let mut world = World { daemon: &daemon, random, routers: vec![], callers: vec![], clients: vec![] };
    for _ in 0..rounds(30) {
        for _ in 0..20 {
            world.step();
        }
        assert_sound(&daemon);
    }
    drop(world);
    for class in ["router", "app", "page", "pending_command", "subscription", "shadow", "queued_frame"] {
        wait_for_live(&daemon, class, 0, BOUND);
    }
    wait_for_live(&daemon, "http", 1, BOUND);
    assert_sound(&daemon);
}
