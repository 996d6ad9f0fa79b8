//! What clients may do with their connections: vanish, stop reading, come from elsewhere, write piece by piece.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use loadgen::reactor::{Client, Ended, Link, Reactor};
use loadgen::route::Route;

/// Records what happens to it.
#[derive(Default)]
struct Probe {
    connected: bool,
    received: usize,
    ended: Option<&'static str>,
    /// Pieces that are still to be written, one whenever the last has been taken.
    pieces: usize,
}

impl Client for Probe {
    type World = ();

    fn connected(&mut self, _: &mut (), link: &mut Link<'_>) {
        self.connected = true;
        if self.pieces > 0 {
            link.out.push(b'!');
        }
    }

    fn received(&mut self, _: &mut (), _: &mut Link<'_>, bytes: &[u8]) -> Result<usize, String> {
        self.received += bytes.len();
        Ok(bytes.len())
    }

    fn timer(&mut self, _: &mut (), _: &mut Link<'_>, _: u8) {}

    fn drained(&mut self, _: &mut (), link: &mut Link<'_>) {
        if self.pieces > 0 {
            self.pieces -= 1;
            link.out.push(b'.');
        }
    }

    fn ended(&mut self, _: &mut (), _: &mut Link<'_>, why: Ended) {
        self.ended = Some(why.kind());
    }
}

struct Pair {
    reactor: Reactor<Probe>,
    peer: TcpStream,
}

/// A connected probe and the other end of its connection.
fn connected(probe: Probe, route: impl FnOnce(SocketAddr) -> Route) -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let index = reactor.add_idle(probe, address);
    reactor.visit(&mut (), index, |_, _, link| {
        link.set_route(route(address));
        link.connect_at(0);
    });
    run_until(&mut reactor, |probe| probe.connected);
    let (peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    Pair { reactor, peer }
}

fn run_until(reactor: &mut Reactor<Probe>, done: impl Fn(&Probe) -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !reactor.clients().all(&done) {
        assert!(Instant::now() < until, "not within 20 s");
        reactor.turn(&mut (), Duration::from_millis(10)).unwrap();
    }
}

#[test]
fn a_reset_is_an_rst_at_the_other_end() {
    let mut pair = connected(Probe::default(), Route::to);
    pair.reactor.visit(&mut (), 0, |_, _, link| link.reset());
    assert_eq!(pair.reactor.clients().next().unwrap().ended, Some("closed"));
    assert_eq!(pair.peer.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn what_is_not_allowed_is_not_read_until_it_is() {
    let mut pair = connected(Probe::default(), Route::to);
    pair.reactor.visit(&mut (), 0, |_, _, link| link.allow(Some(3)));
    pair.peer.write_all(b"0123456789").unwrap();
    run_until(&mut pair.reactor, |probe| probe.received == 3);
    pair.reactor.turn(&mut (), Duration::from_millis(10)).unwrap();
    assert_eq!(pair.reactor.clients().next().unwrap().received, 3);
    pair.reactor.visit(&mut (), 0, |_, _, link| link.allow(Some(2)));
    run_until(&mut pair.reactor, |probe| probe.received == 5);
    // The FIN behind it is not seen before what stands in front of it.
    drop(pair.peer);
    pair.reactor.visit(&mut (), 0, |_, _, link| link.allow(None));
    run_until(&mut pair.reactor, |probe| probe.received == 10 && probe.ended == Some("closed"));
}

#[test]
fn the_next_piece_is_asked_for_when_the_last_has_been_taken() {
    let mut pair = connected(Probe { pieces: 5, ..Probe::default() }, Route::to);
    run_until(&mut pair.reactor, |probe| probe.pieces == 0);
    let mut bytes = [0; 6];
    pair.peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"!.....");
}

#[test]
fn a_client_may_come_from_another_address() {
    let near = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let pair = connected(Probe::default(), |to| Route { from: Some(near), ..Route::to(to) });
    assert_eq!(pair.peer.peer_addr().unwrap().ip(), near);
}

#[test]
fn one_that_is_given_up_does_not_connect_any_more() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reactor = Reactor::new().unwrap();
    reactor.add(Probe::default(), listener.local_addr().unwrap(), 0);
    reactor.give_up(0);
    reactor.turn(&mut (), Duration::from_millis(10)).unwrap();
    assert_eq!((reactor.open(), reactor.clients().next().unwrap().connected), (0, false));
}
