//! Router frames: the decoder by itself, then a session that gathers the parts of messages.

use super::pieces::{cuttings, feed};
use berth::clock::Time;
use berth::id::Mint;
use berth::proto::router::{Fault, Kind, decode, decode_any, flags, system_frame};
use berth::session::router::{Bound, FromRouter, RouterSession};

/// What a router said: kind, id, flags, name, body.
type Said = (Kind, u32, u8, String, Vec<u8>);

pub fn check(data: &[u8]) {
    check_decoder(data);
    // As a connection begins, and as it is behind a HELLO, so that no input has to begin with one.
    for bound in [false, true] {
        let whole = said(&[data], bound);
        for pieces in cuttings(data) {
            assert_eq!(said(&pieces, bound), whole, "the cut changed the meaning");
        }
        check_against_frames(data, &whole);
    }
}

/// What is decoded, encoded again, is what was read; what was refused or is not whole is not taken.
fn check_decoder(data: &[u8]) {
    let (mut input, mut encoded) = (data, Vec::new());
    while let Ok(Some(frame)) = decode(&mut input) {
        system_frame(&mut encoded, frame.kind, frame.flags, frame.id, frame.name, frame.body);
    }
    assert_eq!(encoded, data[..data.len() - input.len()]);
}

fn said(pieces: &[&[u8]], bound: bool) -> (Vec<Said>, Option<Fault>) {
    let mut session = RouterSession::new(Time::ZERO);
    let bind = || Some(Bound { shadow: 0, session: Mint::new(1).session() });
    session.bound = if bound { bind() } else { None };
    let (mut all, mut fault, mut received) = (Vec::new(), None, 0);
    feed(pieces, |waiting| {
        let mut input = &*waiting;
        loop {
            let next = session.next(&mut input);
            let taken = waiting.len() - input.len();
            assert!(session.half_bytes() <= received + taken, "more is held than has come");
            assert_eq!(session.half_bytes(), session.half_event_bytes());
            match next {
                Ok(Some(one)) => all.push(owned(one)),
                Ok(None) => {
                    received += taken;
                    return Some(taken);
                }
                Err(error) => {
                    fault = Some(error);
                    return None;
                }
            }
            if session.bound.is_none() {
                session.bound = bind();
            }
        }
    });
    session.drop_half_event();
    assert_eq!(session.half_bytes(), 0, "the account is not balanced");
    (all, fault)
}

fn owned(said: FromRouter<'_>) -> Said {
    match said {
        FromRouter::Hello { router } => (Kind::Hello, 0, 0, router.to_owned(), Vec::new()),
        FromRouter::Ping { id, body } => (Kind::Ping, id, 0, String::new(), body.to_vec()),
        FromRouter::Pong => (Kind::Pong, 0, 0, String::new(), Vec::new()),
        FromRouter::Bye { code } => (Kind::Bye, 0, 0, code.to_owned(), Vec::new()),
        FromRouter::ReplyPart { id, flags, body } => (Kind::Reply, id, flags, String::new(), body.to_vec()),
        FromRouter::Event { topic, flags, body } => (Kind::Event, 0, flags, topic.into(), body.into()),
        FromRouter::Item { id, json, seq, row } => {
            let json_flag = if json { flags::JSON } else { 0 };
            (Kind::Item, id, json_flag, String::new(), [&seq.to_be_bytes(), row].concat())
        }
        FromRouter::End { id, next } => (Kind::End, id, 0, String::new(), next.to_be_bytes().into()),
        FromRouter::StreamError { id, text } => (Kind::End, id, flags::ERROR, String::new(), text.into()),
    }
}

/// Reads the frames without any checks, puts events together, and compares: up to the first fault the session said
/// exactly this.
fn check_against_frames(data: &[u8], (said, fault): &(Vec<Said>, Option<Fault>)) {
    let (mut input, mut event, mut said) = (data, None::<Said>, said.iter());
    while let Some((kind, frame_flags, id, name, body)) = decode_any(&mut input) {
        let text = || String::from_utf8_lossy(name).into_owned();
        let expected = match kind {
            0x01 => (Kind::Hello, 0, 0, text(), Vec::new()),
            0x03 => (Kind::Ping, id, 0, String::new(), body.to_vec()),
            0x04 => (Kind::Pong, 0, 0, String::new(), Vec::new()),
            0x05 => (Kind::Bye, 0, 0, text(), Vec::new()),
            0x11 => (Kind::Reply, id, frame_flags, String::new(), body.to_vec()),
            0x12 => {
                let begun = event.get_or_insert_with(|| (Kind::Event, 0, frame_flags, text(), Vec::new()));
                begun.4.extend_from_slice(body);
                if frame_flags & flags::MORE != 0 {
                    continue;
                }
                let (kind, id, first_flags, topic, body) = event.take().expect("it was begun");
                (kind, id, first_flags & !flags::MORE, topic, body)
            }
            0x21 => (Kind::Item, id, frame_flags, String::new(), body.to_vec()),
            _ => (Kind::End, id, frame_flags, String::new(), body.to_vec()),
        };
        match said.next() {
            Some(one) => assert_eq!(*one, expected),
            None => {
                assert!(fault.is_some(), "a whole frame was passed over: {expected:?}");
                return;
            }
        }
    }
    assert!(said.next().is_none(), "more was said than there are frames");
}
