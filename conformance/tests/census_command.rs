//! Contract section 7: `berthd census`, the census as a table, with its verdict in words.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};

use conformance::daemon::{Daemon, binary};
use conformance::router::Router;
use serde_json::Value;

/// Runs `berthd census` with the configuration of a daemon that has `http` as its `http.bind`.
fn census(http: &str, arguments: &[&str]) -> Output {
    let file = tempfile::NamedTempFile::new().expect("a file for the configuration");
    writeln!(&file, "http.bind = \"{http}\"").expect("write the configuration");
    let mut command = Command::new(binary());
    command.arg("census").args(arguments).arg("--config").arg(file.path());
    command.output().expect("run berthd census")
}

fn stdout(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

#[track_caller]
fn fails(output: &Output, expected: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(output.stdout.is_empty() && stderr.contains(expected), "{stderr}");
}

#[test]
fn a_table_of_every_class() {
    let daemon = Daemon::start("");
    let _routers = [Router::bind(daemon.router, "hub-1"), Router::bind(daemon.router, "hub-2")];
    let output = census(&daemon.http.to_string(), &[]);
    let text = stdout(&output);
    let row = |name: &str| {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(row("router")[..4], ["router", "2", "2", "0"]);
    assert_eq!(row("audit")[..2], ["audit", "ok:"]);
    for class in ["http", "app", "page", "listener", "pending_command", "subscription", "stream", "timer"] {
        assert!(row(class).len() >= 4, "{class}");
    }
    for class in ["shadow", "queued_frame", "log", "other"] {
        row(class);
    }
    assert!(text.lines().next().is_some_and(|verdict| verdict.contains("verdict") || verdict.contains(": ")));
}

#[test]
fn the_json_as_it_came() {
    let daemon = Daemon::start("");
    let output = census(&daemon.http.to_string(), &["--json"]);
    let value: Value = serde_json::from_str(stdout(&output)).expect("JSON");
    assert_eq!(value["audit"]["ok"], true);
    assert_eq!(value["audit"]["at_s"], value["uptime_s"], "it asks for a new audit");
}

#[test]
fn the_address_is_that_of_the_configuration() {
    let daemon = Daemon::start("http.bind = \"[::1]:0\"");
    let port = daemon.http.port();
    stdout(&census(&format!("[::1]:{port}"), &[]));
    // Open mode is on loopback only: such a daemon would not have started.
    let output = census(&format!("[::]:{port}"), &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn nobody_there_says_where_and_what_to_check() {
    let free = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("an address");
    let address = free.to_string();
    fails(&census(&address, &[]), &address);
    fails(&census(&address, &["--json"]), "is the daemon running");
    fails(&census("127.0.0.1:0", &[]), "ready line");
}

#[test]
fn another_service_is_not_taken_for_the_daemon() {
    for (answer, expected) in [
        ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "401"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnope\n", "404, nope"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "no JSON"),
        ("220 mail.example ESMTP\r\n", "HTTP"),
    ] {
        let address = answers_once(answer);
        let output = census(&address.to_string(), &[]);
        fails(&output, expected);
        fails(&output, &address.to_string());
    }
}

/// A service that says `answer` to the first who comes.
fn answers_once(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        stream.write_all(answer.as_bytes()).expect("write");
        stream.shutdown(std::net::Shutdown::Write).expect("shutdown");
        // Until the other side closes: a reset would take the answer with it.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    address
}

#[test]
fn a_configuration_that_is_wrong_is_exit_2() {
    let output = Command::new(binary()).args(["census", "--config", "/nonexistent/berth.toml"]).output();
    let output = output.expect("run berthd census");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty() && !output.stderr.is_empty());
}
