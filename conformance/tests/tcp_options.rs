//! Contract section 2: the options of accepted sockets, as far as the kernel shows them, and descriptors that run out.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use conformance::calls::{Census, command, wait_for_live};
use conformance::daemon::{Daemon, eventually, try_start};
use conformance::http::{self, PATIENCE};
use conformance::kernel::{Tcp, cpu_time, descriptors, limit_descriptors};
use conformance::router::Router;

/// The seconds until the next keepalive probe of the daemon's end, from `timer:(keepalive,14sec,0)`.
fn keepalive_timer(stream: &TcpStream) -> Option<f64> {
    let rest = Tcp::other_end(stream)?.rest;
    let (_, timer) = rest.split_once("timer:(keepalive,")?;
    let (time, _) = timer.split_once(',')?;
    match time.strip_suffix("sec") {
        // `1min30sec`, `14sec`, `1.2sec`
        Some(seconds) => match seconds.split_once("min") {
            Some((minutes, seconds)) => {
                Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
            }
            None => seconds.parse().ok(),
        },
        None => match time.strip_suffix("ms") {
            Some(milliseconds) => Some(milliseconds.parse::<f64>().ok()? / 1000.0),
            None => Some(time.strip_suffix("min")?.parse::<f64>().ok()? * 60.0),
        },
    }
}

fn listeners(daemon: &Daemon) -> [(&'static str, SocketAddr); 4] {
    [("router", daemon.router), ("http", daemon.http), ("app", daemon.app), ("page", daemon.page)]
}

/// An accepted connection of each listener; the kernel's timer of it is what can be seen.
#[track_caller]
fn assert_keepalive(address: SocketAddr, listener: &str, expected: f64) {
    let stream = TcpStream::connect(address).expect("connect");
    let timer =
        eventually(&format!("a keepalive timer on {listener}"), PATIENCE, || keepalive_timer(&stream));
    assert!(timer <= expected && timer > expected - 3.0, "{listener}: {timer} s");
}

#[test]
fn every_accepted_socket_has_keepalive_after_15_s() {
    let daemon = Daemon::start("");
    for (listener, address) in listeners(&daemon) {
        assert_keepalive(address, listener, 15.0);
    }
}

#[test]
fn keepalive_is_set_per_listener() {
    let daemon = Daemon::start(
        "router.keepalive.idle_s = 40\nrouter.keepalive.user_timeout_s = 100\n\
         http.keepalive.idle_s = 50\nhttp.keepalive.user_timeout_s = 110\n\
         websocket.app.keepalive.idle_s = 20\nwebsocket.app.keepalive.user_timeout_s = 80\n\
         websocket.page.keepalive.idle_s = 30\nwebsocket.page.keepalive.user_timeout_s = 90",
    );
    for ((listener, address), expected) in listeners(&daemon).into_iter().zip([40.0, 50.0, 20.0, 30.0]) {
        assert_keepalive(address, listener, expected);
    }
}

#[test]
fn a_user_timeout_below_the_keepalive_is_a_config_error() {
    for listener in ["router", "http", "websocket.app", "websocket.page"] {
        let short = format!("{listener}.keepalive.user_timeout_s = 74");
        let (status, stderr) = try_start(&short).err().unwrap_or_else(|| panic!("started with {short}"));
        assert_eq!(status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("user_timeout_s"), "{stderr}");
        // The count multiplies the interval, and the idle time comes before.
        let longer = format!("{listener}.keepalive.count = 5\n{listener}.keepalive.user_timeout_s");
        assert!(try_start(&format!("{longer} = 89")).is_err(), "started with {longer} = 89");
        Daemon::start(&format!("{longer} = 90"));
    }
}

#[test]
fn a_backlog_takes_a_reconnect_storm() {
    let daemon = Daemon::start("");
    let streams: Vec<Router> = (0..1000).map(|_| Router::connect(daemon.router)).collect();
    let mut bound = Vec::new();
    for (n, mut router) in streams.into_iter().enumerate() {
        router.hello(&format!("hub-{n}"));
        bound.push(router);
    }
    assert_eq!(Census::of(&daemon).live("router"), 1000);
    drop(bound);
    wait_for_live(&daemon, "router", 0, PATIENCE);
}

#[test]
fn running_out_of_descriptors_neither_spins_nor_ends_it() {
    let daemon = Daemon::start("router.hello_timeout_s = 600");
    let mut api = http::Client::connect(daemon.http);
    assert_eq!(api.request("GET", "/healthz", &[], b"").status, 200);
    let _echo = Router::bind(daemon.router, "hub").echo();
    let limit = descriptors(daemon.pid()) as u64 + 30;
    limit_descriptors(daemon.pid(), limit);

    let mut streams: Vec<Router> = (0..200).map(|_| Router::connect(daemon.router)).collect();
    eventually("all descriptors are used", PATIENCE, || {
        (descriptors(daemon.pid()) as u64 >= limit).then_some(())
    });
    let before = cpu_time(daemon.pid());
    std::thread::sleep(Duration::from_secs(2));
    let used = cpu_time(daemon.pid()) - before;
    assert!(used < Duration::from_millis(200), "{used:?} of CPU time in 2 s: it spins");
    // Those that it has are served as ever.
    let answer = api.request("POST", "/v1/routers/hub/commands/echo?timeout_ms=10000", &[], b"still here");
    assert_eq!(answer.body, b"still here");

    streams.drain(..190);
    let begun = Instant::now();
    for (n, router) in streams.iter_mut().enumerate() {
        router.hello(&format!("late-{n}"));
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "accepted again after {:?}", begun.elapsed());
    assert_eq!(command(daemon.http, "hub", "echo", 10_000, b"x").body, b"x");
}

#[test]
fn the_kernel_holds_little_that_was_not_sent() {
    let daemon = Daemon::start("");
    let router = Router::bind_small(daemon.router, "hub");
    let response = conformance::calls::oneway(daemon.http, "hub", "fill", &vec![1; 1 << 20]);
    assert_eq!(response.status, 202);
    conformance::kernel::settled(router.stream());
    let end = Tcp::other_end(router.stream()).expect("the daemon's end");
    // TCP_NOTSENT_LOWAT 16384; one write may go a segment over it.
    assert!(end.send_queue < 200_000, "{} bytes wait in the kernel", end.send_queue);
}
