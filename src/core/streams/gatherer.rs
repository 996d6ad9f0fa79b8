//! What one OPEN has brought: the row that is expected next, and what is in flight. At a gap it is dropped whole, never
//! repaired; the next OPEN has one of its own (SPEC section 1, Streams).

use crate::limits::MAX_ROW_BYTES;
use std::collections::VecDeque;

/// Room for so many rows that wait is made at once: more grow by doubling.
const FIRST_ROWS: u32 = 32;

/// How much a router may send ahead of the acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub max_messages: u32,
    /// Row bytes, without their sequence numbers.
    pub max_bytes: u32,
}

/// Why a row is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It is not the expected one.
    Gap,
    /// It is more than the window.
    Overrun,
}

#[derive(Debug)]
pub struct Gatherer {
    /// The stream id of this OPEN in the router's session.
    pub id: u32,
    /// The sequence number that is expected next.
    next: u64,
    /// The lengths of those that the consumer has not taken, in order.
    untaken: VecDeque<u16>,
    /// Rows and row bytes that no ACK has been queued for.
    in_flight: u32,
    in_flight_bytes: u32,
    /// The same of those that the consumer has taken: the next ACK is for them.
    taken: u32,
    taken_bytes: u32,
}

impl Gatherer {
    pub fn new(id: u32, from: u64) -> Self {
        Self {
            id,
            next: from,
            untaken: VecDeque::new(),
            in_flight: 0,
            in_flight_bytes: 0,
            taken: 0,
            taken_bytes: 0,
        }
    }

    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes in the row numbered `seq`, of so many bytes.
    pub fn take_in(&mut self, seq: u64, bytes: usize, window: Window) -> Result<(), Misfit> {
        if seq != self.next {
            return Err(Misfit::Gap);
        }
        debug_assert!(bytes <= MAX_ROW_BYTES);
        let (in_flight, in_flight_bytes) = (self.in_flight + 1, self.in_flight_bytes + bytes as u32);
        if in_flight > window.max_messages || in_flight_bytes > window.max_bytes {
            return Err(Misfit::Overrun);
        }
        (self.in_flight, self.in_flight_bytes) = (in_flight, in_flight_bytes);
        if self.untaken.capacity() == 0 {
            self.untaken.reserve_exact(window.max_messages.min(FIRST_ROWS) as usize);
        }
        self.untaken.push_back(bytes as u16);
        self.next += 1;
        Ok(())
    }

    /// The length of the first row that the consumer has not taken.
    pub fn first_untaken(&self) -> Option<usize> {
        self.untaken.front().map(|bytes| usize::from(*bytes))
    }

    /// The consumer has taken that row.
    pub fn take_off(&mut self) {
        if let Some(bytes) = self.untaken.pop_front() {
            self.taken += 1;
            self.taken_bytes += u32::from(bytes);
        }
        if self.untaken.is_empty() {
            self.untaken = VecDeque::new(); // who waits for rows owns no buffer
        }
    }

    /// The highest sequence number that the consumer has taken, for an ACK that is queued now: the window is open again as far.
    pub fn acknowledge(&mut self) -> u64 {
        self.in_flight -= std::mem::take(&mut self.taken);
        self.in_flight_bytes -= std::mem::take(&mut self.taken_bytes);
        self.next - self.untaken.len() as u64 - 1
    }

    /// Whether the router may send a row of any length.
    pub fn is_open(&self, window: Window) -> bool {
        self.in_flight < window.max_messages
            && self.in_flight_bytes + MAX_ROW_BYTES as u32 <= window.max_bytes
    }

    /// What it holds of the heap, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.untaken.capacity() * size_of::<u16>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { max_messages: 3, max_bytes: 16_384 };

    #[test]
    fn rows_come_in_order_and_within_the_window() {
        let mut gatherer = Gatherer::new(1, 7);
        assert_eq!(gatherer.take_in(8, 1, WINDOW), Err(Misfit::Gap));
        for seq in 7..10 {
            assert_eq!(gatherer.take_in(seq, 10, WINDOW), Ok(()));
        }
        assert_eq!(gatherer.take_in(10, 10, WINDOW), Err(Misfit::Overrun));
        assert_eq!(gatherer.take_in(9, 10, WINDOW), Err(Misfit::Gap));
        assert_eq!(gatherer.next(), 10);
    }

    #[test]
    fn bytes_are_counted_without_the_sequence_number() {
        let mut gatherer = Gatherer::new(1, 0);
        assert_eq!(gatherer.take_in(0, 16_376, WINDOW), Ok(()));
        assert_eq!(gatherer.take_in(1, 9, WINDOW), Err(Misfit::Overrun));
        assert_eq!(gatherer.take_in(1, 8, WINDOW), Ok(()));
        assert!(!gatherer.is_open(WINDOW));
    }

    #[test]
    fn the_window_opens_with_the_ack_and_not_before() {
        let mut gatherer = Gatherer::new(1, 5);
        for seq in 5..8 {
            gatherer.take_in(seq, 0, WINDOW).unwrap();
        }
        gatherer.take_off();
        gatherer.take_off();
        assert_eq!(gatherer.take_in(8, 0, WINDOW), Err(Misfit::Overrun));
        assert_eq!(gatherer.acknowledge(), 6);
        assert_eq!(gatherer.take_in(8, 0, WINDOW), Ok(()));
        assert_eq!(gatherer.take_in(9, 0, WINDOW), Ok(()));
        assert_eq!(gatherer.take_in(10, 0, WINDOW), Err(Misfit::Overrun));
        while gatherer.first_untaken().is_some() {
            gatherer.take_off();
        }
        assert_eq!((gatherer.acknowledge(), gatherer.held_bytes()), (9, 0));
    }
}
