//! The frames between server and router: OPEN, ACK and CANCEL as they are written, rows and END as they are read.

use super::*;
use std::collections::btree_map::Entry;

impl Model {
    pub(super) fn router_was(
        &mut self,
        serial: u64,
        happened: Happened,
        network: &Network,
        now: Time,
    ) -> Result<(), String> {
        if let Entry::Vacant(tap) = self.streams.taps.entry(serial) {
            let link = network.links.iter().find(|link| link.borrow().serial == serial);
            let Some(link) = link.cloned() else { return Ok(()) };
            let (read, written) = Default::default();
            tap.insert(Tap { link, router: None, read, written, begun_at: 0, last_id: 0, ended_at: None });
        }
        let count = self.streams.count;
        let Some(tap) = self.streams.taps.get_mut(&serial) else { return Ok(()) };
        match happened {
            Happened::Ended => tap.ended_at = tap.ended_at.or(Some(now)),
            Happened::Read(bytes) => {
                let mut input = std::mem::take(&mut tap.read);
                input.extend(bytes);
                while let Some(frame) = take_frame(&mut input) {
                    self.read(serial, &frame, now);
                }
                self.tap(serial).read = input;
            }
            Happened::Written(bytes) => {
                let mut input = std::mem::take(&mut tap.written);
                let mut begun_at = if input.is_empty() { count } else { tap.begun_at };
                input.extend(bytes);
                while let Some(frame) = take_frame(&mut input) {
                    match frame.kind {
                        kind::OPEN => self.open(serial, &frame, begun_at, now)?,
                        kind::ACK => self.acknowledge(serial, &frame)?,
                        kind::CANCEL => self.cancel(serial, &frame)?,
                        _ => {}
                    }
                    begun_at = self.streams.count;
                }
                let tap = self.tap(serial);
                (tap.written, tap.begun_at) = (input, begun_at);
            }
        }
        Ok(())
    }

    fn tap(&mut self, serial: u64) -> &mut Tap {
        self.streams.taps.get_mut(&serial).expect("its bytes were just looked at")
    }

    /// The server has read a frame of a router. It may have been the last it listened to.
    fn read(&mut self, serial: u64, frame: &Frame, now: Time) {
        if frame.kind == kind::HELLO && self.tap(serial).router.is_none() {
            for asked in self.streams.asked.values_mut().filter(|asked| asked.router == frame.name) {
                asked.sessions += 1;
            }
            self.tap(serial).router = Some(frame.name.clone());
        }
        let broke_rules = self.tap(serial).link.borrow().did.broke_rules;
        let turn = self.streams.turn;
        let Some(open) = self.streams.opens.get_mut(&(serial, frame.id)) else { return };
        if open.state != State::Gathering {
            return;
        }
        let Some(asked) = self.streams.asked.get_mut(&open.stream) else { return };
        let number = frame.body.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        match frame.kind {
            kind::ITEM if number != open.next => {
                open.state = State::Gap;
                self.count("stream gap");
            }
            kind::ITEM => {
                let is_other = (frame.flags & flag::JSON != 0) != asked.rows.json && number > asked.from;
                if broke_rules && (is_other || is_over_window(asked, number)) {
                    open.forbidden = open.forbidden.or(Some(number));
                }
                open.next += 1;
                asked.moved_at = now;
            }
            kind::END if frame.flags & flag::ERROR != 0 => {
                asked.errors.push(String::from_utf8_lossy(&frame.body).into_owned());
                open.state = State::Ended { at_turn: turn };
            }
            kind::END if number == open.next => {
                asked.ends.push(number);
                open.state = State::Ended { at_turn: turn };
            }
            kind::END => {
                open.state = State::GapAtEnd;
                self.count("stream gap");
            }
            _ => {}
        }
    }

    fn open(&mut self, serial: u64, frame: &Frame, begun_at: usize, now: Time) -> Result<(), String> {
        let tap = self.tap(serial);
        let is_new = frame.id > tap.last_id;
        tap.last_id = frame.id;
        let (router, was_slow) = (tap.router.clone(), tap.link.borrow().did.slow);
        let problem = |what: &str| Err(format!("an OPEN {what}: {frame:?}"));
        let Some((fixed, query)) = frame.body.split_first_chunk::<16>() else { return problem("too short") };
        let query = String::from_utf8_lossy(query);
        let number = query.strip_prefix("n=").and_then(|rest| rest.split('&').next()?.parse().ok());
        let Some(number) = number else { return problem("of nobody's stream") };
        let from = u64::from_be_bytes(fixed[8..].try_into().unwrap_or_default());
        let Some(asked) = self.streams.asked.get_mut(&number) else { return problem("of nobody's stream") };
        let window = [asked.window.0 as u32, asked.window.1 as u32].map(u32::to_be_bytes).concat();
        if !is_new
            || frame.flags != 0
            || asked.name != frame.name
            || asked.query != query
            || fixed[..8] != window
        {
            return problem("that is not as it was asked, or not new");
        }
        if router.as_ref() != Some(&asked.router) {
            return problem("to another router");
        }
        if asked.opened_count > begun_at {
            return Ok(()); // the rest of one that was begun when its session ended
        }
        if asked.end.is_some() && !was_slow {
            return problem("of a stream that is over");
        }
        if from != asked.next {
            return problem(&format!("from another row than {}", asked.next));
        }
        let before = asked.last_open.replace((serial, frame.id));
        let is_again =
            before.and_then(|key| self.streams.opens.get(&key)).is_some_and(|open| open.from == from);
        asked.barren = if is_again { asked.barren + 1 } else { 1 };
        self.streams.count += 1;
        (asked.moved_at, asked.opened_at, asked.opened_count) = (now, now, self.streams.count);
        if let Some(before) =
            before.filter(|before| before.0 == serial).and_then(|key| self.streams.opens.get(&key))
            && !matches!(before.state, State::Reopens | State::GapAtEnd)
        {
            return problem(&format!("while the one before is {:?}", before.state));
        }
        if asked.barren > MOST_BARREN {
            return problem("behind eleven that brought nothing");
        }
        let (next, acked, forbidden) = (from, None, None);
        let open = Open { stream: number, from, next, acked, state: State::Gathering, forbidden };
        self.streams.opens.insert((serial, frame.id), open);
        self.count(if before.is_some() { "stream opened again" } else { "stream opened" });
        Ok(())
    }

    fn acknowledge(&mut self, serial: u64, frame: &Frame) -> Result<(), String> {
        self.check_not_ended(serial, frame)?;
        let taken = frame.body.as_slice().try_into().map_or(u64::MAX, u64::from_be_bytes);
        let problem = |what: String| Err(format!("an ACK {what}: {frame:?}"));
        let Some(open) = self.streams.opens.get_mut(&(serial, frame.id)) else {
            return problem("of what was not opened".into());
        };
        let next = self.streams.asked.get(&open.stream).map_or(0, |asked| asked.next);
        if frame.flags != 0 || !frame.name.is_empty() || taken < open.from || open.acked >= Some(taken) {
            return problem(format!("from {} behind {:?}", open.from, open.acked));
        }
        if matches!(open.state, State::Cancelled | State::Reopens) {
            return problem("behind CANCEL".into());
        }
        if taken >= next {
            return problem(format!("of a row that the consumer has not: it has those before {next}"));
        }
        open.acked = Some(taken);
        self.count("stream ack");
        Ok(())
    }

    fn cancel(&mut self, serial: u64, frame: &Frame) -> Result<(), String> {
        self.check_not_ended(serial, frame)?;
        let Some(open) = self.streams.opens.get_mut(&(serial, frame.id)) else {
            return Err(format!("a CANCEL of what was not opened: {frame:?}"));
        };
        open.state = match open.state {
            State::Gathering => State::Cancelled,
            State::Gap | State::GapAtEnd => State::Reopens,
            state @ State::Ended { .. } => state,
            State::Cancelled | State::Reopens => return Err(format!("CANCEL twice: {frame:?}")),
        };
        if !frame.body.is_empty() || !frame.name.is_empty() || frame.flags != 0 {
            return Err(format!("a CANCEL with something in it: {frame:?}"));
        }
        self.count("stream cancel");
        Ok(())
    }

    /// Behind END nothing is sent; what was queued before it may be on its way where the socket was full.
    fn check_not_ended(&mut self, serial: u64, frame: &Frame) -> Result<(), String> {
        let turn = self.streams.turn;
        let was_slow = self.tap(serial).link.borrow().did.slow || self.tight_memory;
        match self.streams.opens.get(&(serial, frame.id)).map(|open| open.state) {
            Some(State::Ended { at_turn }) if at_turn < turn && !was_slow => {
                Err(format!("behind END: {frame:?}"))
            }
            _ => Ok(()),
        }
    }
}

/// With row `number` there are more rows in flight than were granted: the consumer has not taken those before.
fn is_over_window(asked: &Asked, number: u64) -> bool {
    let bytes: usize = (asked.next..=number).map(|row| asked.rows.row(row).len()).sum();
    (number + 1).saturating_sub(asked.next) > asked.window.0 as u64 || bytes > asked.window.1
}
