use super::*;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

struct Pair {
    client: TcpStream,
    accepted: TcpStream,
}

/// A connection to `listener`, made by way of `address`.
fn connect(listener: &TcpListener, address: &str) -> Pair {
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect((address, port)).unwrap();
    Pair { client, accepted: listener.accept().unwrap().0 }
}

fn count(listeners: &[&TcpListener]) -> u64 {
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    established(&addresses).unwrap()
}

#[track_caller]
fn becomes(expected: u64, listener: &TcpListener) {
    let began = Instant::now();
    while count(&[listener]) != expected {
        assert!(began.elapsed() < Duration::from_secs(10), "{} instead of {expected}", count(&[listener]));
        std::thread::yield_now();
    }
}

#[test]
fn only_our_ends_are_counted_whatever_the_family() {
    let four = TcpListener::bind("127.0.0.1:0").unwrap();
    let six = TcpListener::bind("[::1]:0").unwrap();
    let both = TcpListener::bind("[::]:0").unwrap();
    assert_eq!((count(&[]), count(&[&four, &six, &both])), (0, 0));

    let _one = connect(&four, "127.0.0.1");
    let _two = [connect(&six, "::1"), connect(&six, "::1")];
    let _three = [connect(&both, "::1"), connect(&both, "127.0.0.1"), connect(&both, "127.0.0.9")];
    assert_eq!((count(&[&four]), count(&[&six]), count(&[&both])), (1, 2, 3));
    // Whatever the place of a port in the filter.
    assert_eq!((count(&[&four, &both]), count(&[&both, &four]), count(&[&six, &four, &both])), (4, 4, 6));
}

#[test]
fn the_same_port_at_another_address_is_another_service() {
    let ours = TcpListener::bind("127.0.0.1:0").unwrap();
    // It is free with all but certainty; if not, there is nothing to show.
    let Ok(theirs) = TcpListener::bind(("127.0.0.2", ours.local_addr().unwrap().port())) else { return };
    let _pairs = [connect(&ours, "127.0.0.1"), connect(&theirs, "127.0.0.2")];
    assert_eq!((count(&[&ours]), count(&[&ours, &theirs])), (1, 2));
}

#[test]
fn held_until_we_have_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let waiting = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(count(&[&listener]), 0, "in the backlog, nobody's yet");
    let (accepted, _) = listener.accept().unwrap();
    assert_eq!(count(&[&listener]), 1);

    let pair = connect(&listener, "127.0.0.1");
    pair.client.shutdown(Shutdown::Write).unwrap();
    assert_eq!((&pair.accepted).read(&mut [0]).unwrap(), 0);
    assert_eq!(count(&[&listener]), 2, "CLOSE_WAIT: the peer has gone, and we have not noticed");
    pair.accepted.shutdown(Shutdown::Write).unwrap();
    assert_eq!(count(&[&listener]), 1, "our last words are said");

    drop((waiting, accepted, pair));
    becomes(0, &listener);
}

#[test]
fn a_dump_of_many_pieces_is_read_to_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // About 120 bytes each: more than two pieces of 32 KiB.
    let pairs: Vec<_> = (0..400).map(|_| connect(&listener, "127.0.0.1")).collect();
    assert_eq!(count(&[&listener]), pairs.len() as u64);
}

#[test]
fn what_the_kernel_refuses_is_an_error() {
    let payload = (-libc::EACCES).to_ne_bytes();
    let refused = Message { kind: libc::NLMSG_ERROR as u16, flags: 0, payload: &payload };
    assert_eq!(refused.status().unwrap_err().kind(), ErrorKind::PermissionDenied);
    // A filter that is no program: the kernel says so with a message, not by the system call.
    let socket = open().unwrap();
    socket.send(&request(Domain::IPV4, &[255, 4, 0, 0])).unwrap();
    let error = dump(&socket, |_| Ok(())).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn cut_messages_are_broken_and_never_a_panic() {
    let whole = request(Domain::IPV4, &by_port([7000].into_iter()));
    for length in 0..whole.len() {
        assert!(Message::take(&mut &whole[..length]).is_none(), "{length}");
    }
    assert!(Message::take(&mut &whole[..]).is_some());
    assert!((0..72).all(|length| parse(&[libc::AF_INET6 as u8; 72][..length]).is_none()));
}
