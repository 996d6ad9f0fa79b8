//! Contract section 6, 'Nothing stays': when all connections of a burst are gone, the heap and the resident memory are back
//! where they were before it, and so are the descriptors. What is lazy is made at start, so the first burst counts too.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use conformance::calls::Census;
use conformance::daemon::{Daemon, eventually, wait_until};
use conformance::frame::{Frame, flag};
use conformance::http::{Client, PATIENCE};
use conformance::kernel::{descriptors, raise_descriptors, status_bytes};
use conformance::router::{Dial, Router};
use conformance::websocket::{HANDSHAKE, TEXT, WebSocket};

const ROUTERS: usize = 2000;
const WEBSOCKETS: usize = 1000;
const CALLERS: usize = 5000;
const BURSTS: u8 = 10;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// How long the daemon has to give memory back when the last connection is gone.
const GIVEN_BACK: Duration = Duration::from_secs(10);

/// One at a time: each needs most of the descriptors that a process may have.
static DESCRIPTORS: Mutex<()> = Mutex::new(());

/// Everybody who is connected in a burst.
struct Burst {
    routers: Vec<Router>,
    websockets: Vec<WebSocket>,
    callers: Vec<Client>,
}

impl Burst {
    /// Connects everybody from an address of this burst's own, so that no port is in TIME_WAIT.
    fn connect(daemon: &Daemon, number: u8) -> Self {
        let from = SocketAddr::from((Ipv4Addr::new(127, 0, 1, number + 1), 0));
        let dial = Dial { from: Some(from), ..Dial::default() };
        let client = |address| Client::over(dial.stream(address).expect("connect"));
        let routers = (0..ROUTERS).map(|n| dial.bind(daemon.router, &format!("r{n}"))).collect();
        let websockets = (0..WEBSOCKETS).map(|n| {
            let mut client = client(if n % 2 == 0 { daemon.app } else { daemon.page });
            client.send_request("GET", "/ws", HANDSHAKE, b"");
            let mut websocket = WebSocket::upgraded(client).expect("an upgrade");
            websocket.subscribe(&format!("r{n}"), "*");
            if n % 100 == 0 {
                websocket.subscribe("*", "$presence");
            }
            websocket
        });
        let websockets = websockets.collect();
        let callers = (0..CALLERS).map(|_| {
            let mut caller = client(daemon.http);
            assert_eq!(caller.request("GET", "/healthz", &[], b"").status, 200);
            caller
        });
        Self { routers, websockets, callers: callers.collect() }
    }

    /// Commands with and without an answer, events to watchers, values that are kept, and messages that stay half.
    fn traffic(&mut self) {
        for (n, router) in self.routers.iter_mut().enumerate() {
            router.send(&Frame::event("state", vec![b's'; 200 + n % 800]).flags(flag::RETAIN));
            match n % 20 {
                0 => {
                    let caller = &mut self.callers[n];
                    let body = vec![b'c'; 20_000];
                    caller.send_request("POST", &format!("/v1/routers/r{n}/commands/echo"), &[], &body);
                    let command = router.recv_command();
                    router.send_message(&Frame::reply(command.id, command.body));
                    assert_eq!(caller.response().body, body);
                }
                1 => {
                    // Nobody answers before its caller leaves.
                    let target = format!("/v1/routers/r{n}/commands/never?timeout_ms=600000");
                    self.callers[n].send_request("POST", &target, &[], &[b'c'; 5000]);
                }
                2 => router.send_message(&Frame::event("big", vec![b'e'; 100_000])),
                3 => router.send_bytes(&Frame::event("half", vec![b'h'; 50_000]).encode_parts()[..40_000]),
                _ => {}
            }
        }
        for (n, websocket) in self.websockets.iter_mut().enumerate() {
            watch(websocket, "state");
            match n % 20 {
                2 => watch(websocket, "big"),
                4 => websocket.send_frame(TEXT, &[b' '; 10_000]),
                _ => {}
            }
        }
    }

    /// Everybody leaves: most with FIN, some with RST, some with a word.
    fn leave(self) {
        for (n, caller) in self.callers.into_iter().enumerate() {
            if n % 3 == 0 {
                reset(caller.stream());
            }
        }
        for (n, mut websocket) in self.websockets.into_iter().enumerate() {
            match n % 4 {
                0 => reset(websocket.client().stream()),
                1 => websocket.send_close(1000, ""),
                _ => {}
            }
        }
        for (n, mut router) in self.routers.into_iter().enumerate() {
            match n % 4 {
                0 => router.reset(),
                1 => router.send(&Frame::bye("draining")),
                _ => {}
            }
        }
    }
}

/// Waits for an event of this burst, behind presence and what the shadow has kept of the burst before.
fn watch(websocket: &mut WebSocket, topic: &str) {
    loop {
        let event = websocket.event();
        if event["topic"] == topic && event.get("retained").is_none() {
            return;
        }
    }
}

/// RST instead of FIN, when it is dropped.
fn reset(stream: &std::net::TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

/// Bursts, and what is left of each by the census, by `/proc` and by the count of descriptors. What is `remembered` is left
/// on purpose, and resident as well.
fn nothing_stays(config: &str, remembered: fn(&Census) -> u64) {
    let _alone = DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner);
    let needed = (ROUTERS + WEBSOCKETS + CALLERS + 100) as u64;
    assert!(raise_descriptors() >= needed, "needs a descriptor limit of {needed}");
    let daemon = Daemon::start(&format!("http.max_connections = 6000\nhttp.idle_timeout_s = 600\n{config}"));
    // One connection for all looks; the first of them makes what it has itself.
    let mut watch = Client::connect(daemon.http);
    let mut look = || {
        let census = Census::over(&mut watch, "/v1/census?audit=1");
        census.assert_balanced();
        assert_eq!(census.0["audit"]["ok"], true, "{}", census.0);
        census
    };
    look();
    let before = look();
    let heap = |census: &Census| census.memory("live_bytes") - remembered(census);
    let resident = || status_bytes(daemon.pid(), "RssAnon");
    let (heap_before, resident_before, descriptors_before) =
        (heap(&before), resident(), descriptors(daemon.pid()));

    for number in 0..BURSTS {
        let mut burst = Burst::connect(&daemon, number);
        burst.traffic();
        let during = look();
        let live = ["router", "app", "page", "http"].map(|class| during.live(class));
        assert_eq!(live.iter().sum::<u64>(), (ROUTERS + WEBSOCKETS + CALLERS + 1) as u64, "{}", during.0);
        let most = resident();
        burst.leave();
        eventually("everybody is gone", PATIENCE, || {
            let census = look();
            let gone = ["router", "app", "page", "subscription", "pending_command", "queued_frame"];
            (gone.iter().all(|class| census.live(class) == 0) && census.live("http") == 1).then_some(())
        });
        let mut last = String::new();
        let given_back = wait_until(GIVEN_BACK, || {
            let census = look();
            let (heap, resident, open) = (heap(&census), resident(), descriptors(daemon.pid()));
            // What is remembered is many small blocks: the allocator's size classes are up to a quarter apart.
            let may_be_resident = resident_before + remembered(&census) * 5 / 4 + 2 * MIB;
            last = format!(
                "burst {number}: heap {heap_before} before and {heap} after, RssAnon {resident_before}, {most} and \
                 {resident}, descriptors {descriptors_before} and {open}\n{}\n{}",
                before.0["classes"], census.0["classes"]
            );
            let is_back =
                heap <= heap_before + KIB && resident <= may_be_resident && open == descriptors_before;
            is_back.then_some(())
        });
        assert!(given_back.is_some(), "{last}");
        // It must not have shrunk either, or the next burst hides as much.
        assert!(heap(&look()) + KIB >= heap_before, "{last}");
    }
}

#[test]
fn nothing_but_the_shadow_stays_of_ten_bursts() {
    nothing_stays("", |census| census.heap_bytes("shadow"));
}

#[test]
fn nothing_at_all_stays_where_nothing_is_remembered() {
    nothing_stays("shadow.keep_s = 0", |_| 0);
}
