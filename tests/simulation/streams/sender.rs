//! A router's side of its streams: rows within the window, and everything that can go wrong with them.

use super::rows::Rows;
use crate::model::Context;
use crate::socket::LinkRef;
use crate::wire::{Frame, flag, frame, kind};
use std::collections::VecDeque;

/// What a router does with one OPEN.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Honest,
    /// Skips a row, or says too early or too late that it was the last.
    Gap,
    WrongEnd,
    Fails,
    Silent,
    /// Sends more than the window.
    Overruns,
    /// Sends a row whose JSON flag differs from the first one's.
    Wavers,
}

struct Open {
    id: u32,
    rows: Rows,
    from: u64,
    next: u64,
    max_messages: usize,
    max_bytes: usize,
    /// The lengths of the rows that are not acknowledged.
    in_flight: VecDeque<usize>,
    manner: Manner,
    /// When the manner shows: before this row.
    shows_at: u64,
}

#[derive(Default)]
pub struct Sender {
    open: Vec<Open>,
    /// Ids that are over: what comes to them is dropped.
    old: Vec<u32>,
}

impl Sender {
    /// OPEN, ACK or CANCEL, of which the ledger has judged whether it is right.
    pub fn take_in(&mut self, frame: Frame, context: &mut Context<'_>) {
        match frame.kind {
            kind::OPEN => self.begin(&frame, context),
            kind::ACK => {
                let acked = frame.body.try_into().map_or(0, u64::from_be_bytes);
                if let Some(open) = self.open.iter_mut().find(|open| open.id == frame.id) {
                    open.acknowledge(acked);
                }
            }
            _ => {
                self.open.retain(|open| open.id != frame.id);
                self.old.push(frame.id);
            }
        }
    }

    fn begin(&mut self, frame: &Frame, context: &mut Context<'_>) {
        let Some((fixed, query)) = frame.body.split_first_chunk::<16>() else { return };
        let number = |range: std::ops::Range<usize>| {
            fixed[range].iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let rows = Rows::of(&frame.name, &String::from_utf8_lossy(query));
        let from = number(8..16);
        let manner = match context.random.below(100) {
            _ if rows.is_barren => Manner::WrongEnd,
            _ if context.is_calm => Manner::Honest,
            0..15 => Manner::Gap,
            15..22 => Manner::WrongEnd,
            22..30 => Manner::Fails,
            30..34 => Manner::Silent,
            34..37 => Manner::Overruns,
            37..40 => Manner::Wavers,
            _ => Manner::Honest,
        };
        let shows_at = from.saturating_add(if rows.is_barren { 0 } else { context.random.below(12) as u64 });
        self.open.push(Open {
            id: frame.id,
            rows,
            from,
            next: from,
            max_messages: number(0..4) as usize,
            max_bytes: number(4..8) as usize,
            in_flight: VecDeque::new(),
            manner,
            shows_at,
        });
    }

    pub fn act(&mut self, link: &LinkRef, context: &mut Context<'_>) {
        if let Some(id) = self.old.last()
            && context.random.chance(8)
        {
            let late = [&7_u64.to_be_bytes()[..], b"late"].concat();
            let kind = *context.random.pick(&[kind::ITEM, kind::ITEM, kind::END]);
            link.borrow_mut().send(&frame(
                kind,
                0,
                *id,
                "",
                if kind == kind::END { &late[..8] } else { &late },
            ));
        }
        if context.random.chance(2) {
            // A stream that was never opened.
            link.borrow_mut().send(&frame(kind::ITEM, flag::JSON, 1 << 30, "", &[0; 9]));
        }
        if self.open.is_empty() {
            return;
        }
        let index = context.random.below(self.open.len());
        let most = if context.is_calm { 100 } else { context.random.between(1, 10) };
        for _ in 0..most {
            if self.open[index].is_over(link, context) {
                self.old.push(self.open.swap_remove(index).id);
                return;
            }
        }
    }
}

impl Open {
    fn acknowledge(&mut self, acked: u64) {
        let left = (self.next - 1).saturating_sub(acked) as usize;
        while self.in_flight.len() > left {
            self.in_flight.pop_front();
        }
    }

    /// One step. True when it has sent END.
    fn is_over(&mut self, link: &LinkRef, context: &mut Context<'_>) -> bool {
        if self.manner == Manner::Silent && !context.is_calm {
            return false;
        }
        let is_last = self.next >= self.rows.total;
        let shows = self.manner != Manner::Honest && (self.next >= self.shows_at || is_last);
        if shows && let Some(is_over) = self.show(link, context) {
            return is_over;
        }
        if is_last {
            link.borrow_mut().send(&frame(kind::END, 0, self.id, "", &self.next.to_be_bytes()));
            return true;
        }
        let row = self.rows.row(self.next);
        let in_flight: usize = self.in_flight.iter().sum();
        if self.in_flight.len() < self.max_messages && in_flight + row.len() <= self.max_bytes {
            self.send_row(link, row, self.rows.json);
        }
        false
    }

    fn send_row(&mut self, link: &LinkRef, row: Vec<u8>, json: bool) {
        let body = [&self.next.to_be_bytes()[..], &row].concat();
        let flags = if json { flag::JSON } else { 0 };
        link.borrow_mut().send(&frame(kind::ITEM, flags, self.id, "", &body));
        self.in_flight.push_back(row.len());
        self.next += 1;
    }

    /// Does what its manner is; whether it has sent END. `None` if it is not the moment.
    fn show(&mut self, link: &LinkRef, context: &mut Context<'_>) -> Option<bool> {
        let manner = std::mem::replace(&mut self.manner, Manner::Honest);
        match manner {
            Manner::Honest | Manner::Silent => None,
            Manner::Gap if self.next < self.rows.total => {
                self.next += 1;
                self.in_flight.push_back(0);
                Some(false)
            }
            Manner::Gap => None,
            Manner::WrongEnd => {
                // Too many or too few, if there can be fewer.
                let less = self.next > self.from && context.random.chance(50);
                let wrong = if less { self.next - 1 } else { self.next.saturating_add(3) };
                link.borrow_mut().send(&frame(kind::END, 0, self.id, "", &wrong.to_be_bytes()));
                Some(true)
            }
            Manner::Fails => {
                let text = format!("failed before row {}: ä", self.next);
                link.borrow_mut().send(&frame(kind::END, flag::ERROR, self.id, "", text.as_bytes()));
                Some(true)
            }
            Manner::Overruns => {
                let room = self.rows.total - self.next.min(self.rows.total);
                if (room as usize) <= self.max_messages {
                    return None;
                }
                link.borrow_mut().did.broke_rules = true;
                for _ in 0..=self.max_messages {
                    self.send_row(link, self.rows.row(self.next), self.rows.json);
                }
                Some(false)
            }
            Manner::Wavers => {
                let has_room = self.in_flight.is_empty() && self.next < self.rows.total;
                if self.next == self.from || !has_room {
                    self.manner = if self.next < self.rows.total { manner } else { Manner::Honest };
                    return None;
                }
                link.borrow_mut().did.broke_rules = true;
                self.send_row(link, self.rows.row(self.next), !self.rows.json);
                Some(false)
            }
        }
    }
}
