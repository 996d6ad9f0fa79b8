//! The router's side against a server that is played by hand.

use super::*;
use crate::frame::{self, ACK, CANCEL, END, ERROR, ITEM, OPEN, decode};

/// Rows of `row_bytes`, with faults at chosen numbers.
struct Shelf {
    count: u64,
    row_bytes: usize,
    skip: Option<u64>,
    break_at: Option<u64>,
    closed: u32,
}

fn shelf(count: u64, row_bytes: usize) -> Shelf {
    Shelf { count, row_bytes, skip: None, break_at: None, closed: 0 }
}

impl Source for Shelf {
    fn open(&mut self, open: &Open<'_>) -> Result<Option<u32>, String> {
        match open.name {
            "twice" => Err("asked for twice".into()),
            name => Ok((name != "unknown").then_some(0)),
        }
    }

    fn next(&mut self, _: u32, n: u64, row: &mut Vec<u8>) -> Next {
        if n >= self.count {
            return Next::End;
        }
        if self.skip.take_if(|at| *at == n).is_some() {
            return Next::Skip;
        }
        if self.break_at.take_if(|at| *at == n).is_some() {
            return Next::Break;
        }
        row.resize(self.row_bytes, n as u8);
        Next::Row { json: true }
    }

    fn closed(&mut self, _: u32) {
        self.closed += 1;
    }
}

struct Session {
    serving: Serving,
    shelf: Shelf,
    out: Vec<u8>,
}

impl Session {
    fn new(shelf: Shelf) -> Self {
        Self { serving: Serving::default(), shelf, out: Vec::new() }
    }

    fn say(&mut self, kind: u8, id: u32, name: &str, body: &[u8]) -> Result<(), String> {
        let frame = Frame { kind, flags: 0, id, name, body };
        self.serving.take(&frame, &mut self.shelf, &mut self.out)
    }

    fn open(&mut self, id: u32, name: &str, max_messages: u32, from: u64) -> Result<(), String> {
        let window = [max_messages.to_be_bytes(), 16_384u32.to_be_bytes()].concat();
        self.say(OPEN, id, name, &[&window[..], &from.to_be_bytes()].concat())
    }

    fn ack(&mut self, id: u32, highest: u64) -> Result<(), String> {
        self.say(ACK, id, "", &highest.to_be_bytes())
    }

    /// What goes out now: kind, id and the number that it begins with.
    fn sent(&mut self) -> Vec<(u8, u32, u64)> {
        let mut sent = Vec::new();
        loop {
            self.serving.fill(&mut self.shelf, &mut self.out);
            if self.out.is_empty() {
                return sent;
            }
            let mut rest = &self.out[..];
            while let Some((Frame { kind, id, body, .. }, used)) = decode(rest).unwrap() {
                let number = body.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                sent.push((kind, id, number));
                rest = &rest[used..];
            }
            assert!(rest.is_empty());
            self.out.clear();
        }
    }
}

fn items(id: u32, numbers: std::ops::Range<u64>) -> Vec<(u8, u32, u64)> {
    numbers.map(|n| (ITEM, id, n)).collect()
}

#[test]
fn a_window_of_messages_is_obeyed() {
    let mut session = Session::new(shelf(7, 10));
    session.open(1, "log", 3, 0).unwrap();
    assert_eq!(session.sent(), items(1, 0..3));
    assert_eq!(session.sent(), []);
    session.ack(1, 1).unwrap();
    assert_eq!(session.sent(), items(1, 3..5));
    session.ack(1, 4).unwrap();
    assert_eq!(session.sent(), [items(1, 5..7), vec![(END, 1, 7)]].concat());
    assert_eq!(session.shelf.closed, 1);
    // It crossed with END.
    session.ack(1, 6).unwrap();
}

#[test]
fn a_window_of_bytes_is_obeyed() {
    let mut session = Session::new(shelf(9, 6000));
    session.open(1, "log", 100, 4).unwrap();
    assert_eq!(session.sent(), items(1, 4..6));
    session.ack(1, 4).unwrap();
    assert_eq!(session.sent(), items(1, 6..7));
}

#[test]
fn streams_take_turns() {
    let mut session = Session::new(shelf(100, 10));
    session.open(1, "a", 2, 0).unwrap();
    session.open(2, "b", 2, 50).unwrap();
    assert_eq!(session.sent(), [(ITEM, 1, 0), (ITEM, 2, 50), (ITEM, 1, 1), (ITEM, 2, 51)]);
}

#[test]
fn a_gap_is_made_once_and_the_stream_begins_again_under_a_new_id() {
    let mut session = Session::new(Shelf { skip: Some(2), ..shelf(5, 10) });
    session.open(1, "log", 3, 0).unwrap();
    assert_eq!(session.sent(), [(ITEM, 1, 0), (ITEM, 1, 1), (ITEM, 1, 3)]);
    session.say(CANCEL, 1, "", b"").unwrap();
    session.open(2, "log", 3, 2).unwrap();
    assert_eq!(session.sent(), [items(2, 2..5), vec![]].concat());
}

#[test]
fn a_break_stops_everything() {
    let mut session = Session::new(Shelf { break_at: Some(1), ..shelf(5, 10) });
    session.open(1, "log", 3, 0).unwrap();
    assert_eq!(session.serving.fill(&mut session.shelf, &mut session.out), Filled::Break);
    session.serving.clear(&mut session.shelf);
    assert_eq!(session.shelf.closed, 1);
    session.open(1, "log", 3, 0).unwrap();
}

#[test]
fn an_unknown_name_is_answered() {
    let mut session = Session::new(shelf(5, 10));
    session.open(1, "unknown", 3, 0).unwrap();
    let (frame, _) = frame::decode(&session.out).unwrap().unwrap();
    assert_eq!((frame.kind, frame.flags), (END, ERROR));
}

#[test]
fn breaches_of_the_server_are_named() {
    let begun = || {
        let mut session = Session::new(shelf(9, 10));
        session.open(1, "log", 3, 2).unwrap();
        session.sent();
        session.ack(1, 3).unwrap();
        session
    };
    assert!(begun().ack(1, 2).is_err(), "goes back");
    assert!(begun().ack(1, 5).is_err(), "not sent");
    assert!(begun().ack(2, 5).is_err(), "never opened");
    assert!(begun().open(1, "log", 3, 0).is_err(), "an id again");
    assert!(begun().open(3, "log", 3, 0).is_err(), "an id left out");
    assert!(begun().open(2, "twice", 3, 0).is_err(), "refused by the source");
    assert!(begun().ack(1, 4).is_ok());
}
