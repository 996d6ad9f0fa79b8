//! The bare relay and the bare writer do what they are compared for: pass bytes on, unchanged, to the right peer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use loadgen::compare::{Contest, Outcome};
use loadgen::daemon::Process;

const BASELINE: &str = env!("CARGO_BIN_EXE_baseline");

fn connect(process: &Process, name: &str) -> TcpStream {
    let stream = TcpStream::connect(process.address(name).unwrap()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    stream
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut received = vec![0; bytes.len()];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(received, bytes);
}

#[test]
fn the_relay_pairs_callers_and_routers() {
    let process = Process::start(Path::new(BASELINE), &["relay", "2"], None).unwrap();
    let mut routers = [connect(&process, "out"), connect(&process, "out")];
    let mut callers = [connect(&process, "in"), connect(&process, "in")];
    for (caller, router) in callers.iter_mut().zip(&mut routers) {
        let question = format!("from {:?}", caller.local_addr());
        caller.write_all(question.as_bytes()).unwrap();
        expect(router, question.as_bytes());
        router.write_all(b"answer").unwrap();
        expect(caller, b"answer");
    }
}

#[test]
fn the_writer_writes_to_all() {
    let process = Process::start(Path::new(BASELINE), &["fanout", "3"], None).unwrap();
    let mut watchers: Vec<_> = (0..3).map(|_| connect(&process, "out")).collect();
    let mut source = connect(&process, "in");
    for chunk in [&b"one"[..], b"and another"] {
        source.write_all(chunk).unwrap();
        watchers.iter_mut().for_each(|watcher| expect(watcher, chunk));
    }
}

#[test]
fn the_bare_programs_can_be_measured() {
    for contest in [Contest::Relay, Contest::Fanout] {
        let outcome = Outcome { contest, peers: 4, count: 50, bytes: 100, pairs: Vec::new() };
        assert!(outcome.measure_bare(Path::new(BASELINE)).unwrap() > 0.0);
    }
}
