//! The calls of the internal HTTP API that tests of every section make.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::daemon::{Daemon, eventually};
use crate::http::{self, Client, PATIENCE, Response};

/// `POST` of one command, awaited.
#[track_caller]
pub fn command(http: SocketAddr, router: &str, name: &str, timeout_ms: u64, body: &[u8]) -> Response {
    http::request(
        http,
        "POST",
        &format!("/v1/routers/{router}/commands/{name}?timeout_ms={timeout_ms}"),
        &[],
        body,
    )
}

/// The same in a thread of its own.
pub fn command_in_background(
    http: SocketAddr,
    router: &str,
    name: &str,
    timeout_ms: u64,
    body: Vec<u8>,
) -> JoinHandle<Response> {
    let (router, name) = (router.to_owned(), name.to_owned());
    std::thread::spawn(move || command(http, &router, &name, timeout_ms, &body))
}

/// `POST` of one one-way command.
#[track_caller]
pub fn oneway(http: SocketAddr, router: &str, name: &str, body: &[u8]) -> Response {
    http::request(http, "POST", &format!("/v1/routers/{router}/commands/{name}?oneway=1"), &[], body)
}

/// What `GET /v1/routers/{id}` says, `None` when it is not bound.
#[track_caller]
pub fn router(http: SocketAddr, id: &str) -> Option<Value> {
    let response = http::get(http, &format!("/v1/routers/{id}"));
    match response.status {
        200 => Some(response.json()),
        _ => {
            response.problem(404, "router_offline");
            None
        }
    }
}

/// A round trip through the daemon's loop: what reached its sockets before has been read behind it.
#[track_caller]
pub fn barrier(http: SocketAddr) {
    assert_eq!(http::get(http, "/healthz").status, 200);
}

/// Waits until `/readyz` says that the daemon drains.
#[track_caller]
pub fn wait_for_drain(http: SocketAddr) {
    eventually("it drains", PATIENCE, || {
        // One that was accepted just before the signal is idle, and closed unanswered.
        let mut client = Client::connect(http);
        client.send_request("GET", "/readyz", &[], b"");
        (client.response_to("GET").ok()?.status == 503).then_some(())
    });
}

/// `GET /v1/census`.
#[derive(Clone, Debug)]
pub struct Census(pub Value);

impl Census {
    #[track_caller]
    pub fn of(daemon: &Daemon) -> Self {
        Self::get(daemon.http, "/v1/census")
    }

    /// With the walk of every table against every other.
    #[track_caller]
    pub fn audited(daemon: &Daemon) -> Self {
        Self::get(daemon.http, "/v1/census?audit=1")
    }

    #[track_caller]
    fn get(http: SocketAddr, target: &str) -> Self {
        Self::over(&mut Client::connect(http), target)
    }

    /// Over a connection that stays, so that asking opens and closes nothing.
    #[track_caller]
    pub fn over(client: &mut Client, target: &str) -> Self {
        let response = client.request("GET", target, &[], b"");
        assert_eq!(response.status, 200, "{response:?}");
        Self(response.json())
    }

    /// A figure of `memory`.
    #[track_caller]
    pub fn memory(&self, what: &str) -> u64 {
        self.0["memory"][what].as_u64().unwrap_or_else(|| panic!("no memory.{what} in {}", self.0))
    }

    #[track_caller]
    pub fn heap_bytes(&self, class: &str) -> u64 {
        self.count(class, "heap_bytes")
    }

    #[track_caller]
    pub fn count(&self, class: &str, what: &str) -> u64 {
        let count = &self.0["classes"][class][what];
        count.as_u64().unwrap_or_else(|| panic!("no {class}.{what} in {}", self.0))
    }

    #[track_caller]
    pub fn live(&self, class: &str) -> u64 {
        self.count(class, "live")
    }

    /// ITEMs and ENDs that fell on nothing.
    #[track_caller]
    pub fn late_stream_frames(&self) -> u64 {
        let count = &self.0["dropped"]["late_stream_frames"];
        count.as_u64().unwrap_or_else(|| panic!("no dropped.late_stream_frames in {}", self.0))
    }

    /// Balanced, and no table names what another has forgotten.
    #[track_caller]
    pub fn assert_well(&self) {
        self.assert_balanced();
        assert_eq!(self.0["audit"]["ok"], true, "{}", self.0);
    }

    /// How many of a class were unbound for this reason; a reason that has not occurred may be missing.
    #[track_caller]
    pub fn reason(&self, class: &str, reason: &str) -> u64 {
        let reasons = self.0["unbound_by_reason"][class].as_object();
        let reasons = reasons.unwrap_or_else(|| panic!("no reasons of {class} in {}", self.0));
        reasons.get(reason).map_or(0, |count| count.as_u64().expect("a number"))
    }

    /// `opened - unbound == live` in every class, the reasons sum up to `unbound`, and the classes' heap to `live_bytes`.
    #[track_caller]
    pub fn assert_balanced(&self) {
        let classes = self.0["classes"].as_object().expect("classes");
        let heap: u64 = classes.keys().map(|class| self.heap_bytes(class)).sum();
        assert_eq!(heap, self.memory("live_bytes"), "{}", self.0);
        for class in classes.keys().filter(|class| !self.0["classes"][*class]["live"].is_null()) {
            let [live, opened, unbound] = ["live", "opened", "unbound"].map(|what| self.count(class, what));
            assert_eq!(opened - unbound, live, "{class} in {}", self.0);
        }
        for class in ["router", "http", "app", "page"] {
            let reasons = self.0["unbound_by_reason"][class].as_object().expect("reasons");
            let sum: u64 = reasons.values().map(|count| count.as_u64().expect("a number")).sum();
            assert_eq!(sum, self.count(class, "unbound"), "{class} in {}", self.0);
        }
    }
}

/// Waits until as many of a class were unbound for this reason.
#[track_caller]
pub fn wait_for_reason(daemon: &Daemon, class: &str, reason: &str, count: u64, bound: Duration) {
    eventually(&format!("{count} of {class} unbound as {reason}"), bound, || {
        (Census::of(daemon).reason(class, reason) == count).then_some(())
    });
}

/// Waits until this many of a class live.
#[track_caller]
pub fn wait_for_live(daemon: &Daemon, class: &str, count: u64, bound: Duration) {
    eventually(&format!("{count} of {class} live"), bound, || {
        (Census::of(daemon).live(class) == count).then_some(())
    });
}
