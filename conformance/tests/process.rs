//! Contract section 7: the process, its ready line, signals, systemd and its log.

use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::process::{Command, Output};
use std::time::Duration;

use conformance::calls::{command, command_in_background, wait_for_drain};
use conformance::daemon::{Daemon, Launch, binary, eventually, try_start};
use conformance::frame::{Frame, kind};
use conformance::http::{self, PATIENCE};
use conformance::router::Router;
use conformance::websocket::WebSocket;

const SIGHUP: i32 = 1;

fn berthd(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().expect("run berthd")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_ready_line_is_exact_and_tells_the_true_ports() {
    let daemon = Daemon::start("");
    let expected = format!(
        "ready router={} http={} app={} page={}\n",
        daemon.router, daemon.http, daemon.app, daemon.page
    );
    assert_eq!(daemon.stdout(), expected);
    for address in [daemon.router, daemon.http, daemon.app, daemon.page] {
        assert_ne!(address.port(), 0);
        std::net::TcpStream::connect(address).expect("a listener behind the ready line");
    }
}

#[test]
fn nothing_else_goes_to_stdout() {
    let mut daemon = Daemon::start("log.level = \"trace\"\ncensus.log_every_s = 0.1");
    let ready = daemon.stdout();
    let _echo = Router::bind(daemon.router, "hub").echo();
    assert_eq!(command(daemon.http, "hub", "x", 5000, b"").status, 200);
    let mut faulty = Router::bind(daemon.router, "faulty");
    faulty.send(&Frame::new(0x7f));
    faulty.expect_end("protocol_error");
    WebSocket::connect(daemon.app).subscribe("*", "*");
    assert_eq!(http::get(daemon.http, "/nowhere").status, 404);
    eventually("a census in the log", PATIENCE, || daemon.stderr().contains("census").then_some(()));
    daemon.signal(15);
    assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0));
    assert_eq!(daemon.stdout(), ready);
}

#[test]
fn it_is_one_thread() {
    let daemon = Daemon::start("");
    let _echo = Router::bind(daemon.router, "hub").echo();
    let mut watcher = WebSocket::connect(daemon.app);
    watcher.subscribe("*", "*");
    for n in 0..50_u8 {
        assert_eq!(command(daemon.http, "hub", "x", 5000, &[n]).status, 200);
        let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("/proc").count();
        assert_eq!(tasks, 1);
    }
}

#[test]
fn several_addresses_may_be_bound() {
    let daemon = Daemon::start("router.bind = [\"127.0.0.1:0\", \"[::1]:0\"]\nhttp.bind = [\"[::1]:0\"]");
    assert!(daemon.http.is_ipv6());
    assert_eq!(http::get(daemon.http, "/healthz").status, 200);
    // The ready line has all of them, with commas in between.
    let ready = daemon.stdout();
    let routers = ready.split_whitespace().find_map(|word| word.strip_prefix("router=")).expect("addresses");
    let addresses: Vec<SocketAddr> =
        routers.split(',').map(|text| text.parse().expect("an address")).collect();
    assert_eq!(addresses.len(), 2, "{ready}");
    for address in addresses {
        Router::bind(address, "hub").ping();
    }
}

#[test]
fn the_whole_of_127_is_loopback() {
    let daemon = Daemon::start("router.bind = \"127.83.1.9:0\"\nwebsocket.page.bind = \"[::1]:0\"");
    Router::bind(daemon.router, "hub").ping();
    WebSocket::connect(daemon.page);
}

#[test]
fn open_mode_refuses_listeners_off_loopback() {
    for listener in ["router", "http", "websocket.app", "websocket.page"] {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "10.0.0.1:0"] {
            for value in [format!("\"{address}\""), format!("[\"127.0.0.1:0\", \"{address}\"]")] {
                let text = format!("{listener}.bind = {value}");
                let (status, stderr) =
                    try_start(&text).err().unwrap_or_else(|| panic!("started with {text}"));
                assert_eq!(status.code(), Some(2), "{text}: {stderr}");
                assert!(stderr.contains("loopback"), "{text}: {stderr}");
            }
        }
    }
}

#[test]
fn a_port_in_use_is_named() {
    let daemon = Daemon::start("");
    let text = format!("websocket.page.bind = \"{}\"", daemon.page);
    let (status, stderr) = try_start(&text).err().expect("two daemons on one port");
    assert!(!status.success());
    assert!(stderr.contains(&daemon.page.to_string()), "{stderr}");
}

#[test]
fn sighup_does_not_end_it() {
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    for _ in 0..5 {
        daemon.signal(SIGHUP);
        router.ping();
    }
    assert_eq!(http::get(daemon.http, "/readyz").status, 200);
}

#[test]
fn a_caller_that_goes_away_while_it_is_answered_does_not_end_it() {
    // SIGPIPE and its like.
    let daemon = Daemon::start("");
    for _ in 0..50 {
        let mut caller = http::Client::connect(daemon.http);
        caller.send("GET /v1/census HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20));
        socket2::SockRef::from(caller.stream()).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }
    assert_eq!(http::get(daemon.http, "/healthz").status, 200);
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a notify socket");
    let name = format!("berth-notify-{}", std::process::id());
    let address = UnixAddress::from_abstract_name(&name).expect("an abstract address");
    let abstract_socket = UnixDatagram::bind_addr(&address).expect("an abstract notify socket");

    for (socket, variable) in
        [(socket, path.to_str().expect("UTF-8").to_owned()), (abstract_socket, format!("@{name}"))]
    {
        socket.set_read_timeout(Some(PATIENCE)).expect("read timeout");
        let next = |wanted: &str| {
            let mut buffer = [0; 4096];
            loop {
                let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {wanted}: {error}"));
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if text.lines().any(|line| line == wanted) {
                    return;
                }
                assert!(!text.contains("STOPPING=1") || wanted == "STOPPING=1", "{text}");
            }
        };
        let mut daemon = Launch::new("").env("NOTIFY_SOCKET", &variable).start();
        next("READY=1");
        daemon.signal(15);
        next("STOPPING=1");
        assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0));
    }
}

#[test]
fn systemd_is_not_told_before_all_listeners_listen() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a notify socket");
    let occupant = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let text = format!("websocket.page.bind = \"{}\"", occupant.local_addr().expect("its address"));
    let refused = Launch::new(&text).env("NOTIFY_SOCKET", path.to_str().expect("UTF-8")).try_start();
    assert!(refused.is_err(), "two on one port");
    socket.set_nonblocking(true).expect("non-blocking");
    let mut buffer = [0; 4096];
    while let Ok(length) = socket.recv(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(!text.contains("READY=1"), "{text}");
    }
}

#[test]
fn a_notify_socket_that_is_not_there_is_no_reason_to_fail() {
    let daemon = Launch::new("").env("NOTIFY_SOCKET", "/nonexistent/notify").start();
    Router::bind(daemon.router, "hub").ping();
}

#[test]
fn a_full_stderr_pipe_blocks_nothing() {
    let mut daemon =
        Launch::new("log.level = \"trace\"\ncensus.log_every_s = 0.01").leave_stderr_unread().start();
    // Each of them is worth a line; a pipe holds 64 KiB.
    for n in 0..3000 {
        let mut router = Router::connect(daemon.router);
        router.send(&Frame::hello(&format!("hub-{n}")));
        router.send(&Frame::new(0x7f));
        router.expect(kind::WELCOME);
        router.expect_end("protocol_error");
    }
    let _echo = Router::bind(daemon.router, "hub").echo();
    assert_eq!(command(daemon.http, "hub", "x", 5000, b"alive").body, b"alive");
    drop(_echo);
    daemon.signal(15);
    assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn log_lines_are_logfmt_or_json() {
    for format in ["logfmt", "json"] {
        let daemon = Daemon::start(&format!("log.format = \"{format}\"\nlog.level = \"trace\""));
        let mut router = Router::bind(daemon.router, "hub");
        router.send(&Frame::new(0x7f));
        router.expect_end("protocol_error");
        let log = eventually("the fault in the log", PATIENCE, || {
            Some(daemon.stderr()).filter(|log| log.contains("protocol_error"))
        });
        for line in log.lines() {
            match format {
                "json" => {
                    let parsed = serde_json::from_str::<serde_json::Value>(line);
                    assert!(parsed.is_ok_and(|value| value.is_object()), "{line}");
                }
                _ => assert!(line.split(' ').next().is_some_and(|word| word.contains('=')), "{line}"),
            }
        }
    }
}

#[test]
fn credentials_and_control_characters_never_appear_in_the_log() {
    let daemon = Daemon::start("log.level = \"trace\"");
    let mut router = Router::connect(daemon.router);
    router.send(&Frame::hello("hub").body("s3cret-credential"));
    router.expect(kind::WELCOME);
    router.send(&Frame::bye("kicked").body("a\nforged level=info line\x1b[2J"));
    router.expect_fin();
    let mut refused = Router::connect(daemon.router);
    refused.send(&Frame::hello("hub two\nforged").id(9).body("s3cret-credential"));
    refused.expect_end("unsupported_version");
    let headers = [("Authorization", "Bearer s3cret-credential")];
    assert_eq!(http::request(daemon.http, "GET", "/healthz", &headers, b"").status, 200);
    http::get(daemon.http, "/v1/routers?access_token=s3cret-credential").problem(400, "bad_request");
    drop(refused);
    let log = eventually("the refusal in the log", PATIENCE, || {
        Some(daemon.stderr()).filter(|log| log.contains("reason=protocol_error"))
    });
    assert!(!log.contains("s3cret"), "{log}");
    assert!(!log.contains('\x1b') && !log.lines().any(|line| line.starts_with("forged")), "{log}");
}

#[test]
fn the_log_level_is_kept() {
    let quiet = Daemon::start("log.level = \"error\"");
    let mut router = Router::bind(quiet.router, "hub");
    router.send(&Frame::new(0x7f));
    router.expect_end("protocol_error");
    assert_eq!(http::get(quiet.http, "/healthz").status, 200);
    assert_eq!(quiet.stderr(), "");
}

#[test]
fn the_descriptor_limit_is_raised_to_the_hard_one() {
    let shell = "ulimit -Sn 64; ulimit -Hn 3000; exec \"$0\" \"$@\"";
    let daemon = Launch::new("").wrapper(&["sh", "-c", shell]).start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).expect("/proc/PID/limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("the limit");
    assert_eq!(line.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["3000", "3000"]);
    // 100000 routers do not fit under it.
    eventually("a warning", PATIENCE, || daemon.stderr().contains("max_connections").then_some(()));
    let routers: Vec<Router> = (0..200).map(|n| Router::bind(daemon.router, &format!("hub-{n}"))).collect();
    drop(routers);
}

#[test]
fn check_says_whether_the_configuration_is_good() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("write the configuration");
        path.to_str().expect("UTF-8").to_owned()
    };
    let good = write("good.toml", "router.bind = \"127.0.0.1:0\"\nlog.level = \"warn\"\n");
    let bad = write("bad.toml", "\nrouter.bund = \"127.0.0.1:0\"\n");
    for (file, code) in [(&good, 0), (&bad, 2)] {
        for arguments in [["check", "--config", file], ["--config", file, "check"]] {
            let output = berthd(&arguments);
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
            assert!(!String::from_utf8_lossy(&output.stdout).contains("ready "));
        }
    }
    assert!(stderr(&berthd(&["check", "--config", &bad])).contains("bund"));
    // Without a file the defaults are checked.
    assert_eq!(berthd(&["check"]).status.code(), Some(0));
}

#[test]
fn check_binds_nothing() {
    let daemon = Daemon::start("");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("berth.toml");
    std::fs::write(&path, format!("router.bind = \"{}\"\n", daemon.router)).expect("write the configuration");
    let output = berthd(&["check", "--config", path.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_bad_command_line_is_refused() {
    let missing = "/nonexistent/berth.toml";
    let cases: [&[&str]; 7] = [
        &["--config", missing],
        &["check", "--config", missing],
        &["--config"],
        &["--no-such-option"],
        &["no-such-subcommand"],
        &["check", "no-such-argument"],
        &["check", "check"],
    ];
    for arguments in cases {
        let output = berthd(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    assert!(stderr(&berthd(&["--config", missing])).contains(missing));
}

#[test]
fn subcommands_of_later_versions_are_not_supported_yet() {
    let output = berthd(&["token", "--aud", "router", "--sub", "hub"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
    assert!(stderr(&output).contains("not supported yet"), "{}", stderr(&output));
}

#[test]
fn a_second_signal_ends_it_at_once_with_1() {
    for [first, second] in [[15, 15], [2, 2], [15, 2], [2, 15]] {
        let mut daemon = Daemon::start("drain_s = 60");
        let mut router = Router::bind(daemon.router, "hub");
        let caller = command_in_background(daemon.http, "hub", "x", 600_000, vec![]);
        router.recv_command();
        daemon.signal(first);
        wait_for_drain(daemon.http);
        assert!(daemon.is_running());
        daemon.signal(second);
        assert_eq!(daemon.wait_exit(Duration::from_secs(5)).code(), Some(1));
        // Its caller only sees the connection end.
        assert!(caller.join().is_err());
    }
}
