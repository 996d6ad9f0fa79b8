//! A WebSocket client reads the history of a router. It reads it once for all its subscriptions, and live events of the router
//! wait behind it: so the client sees the router's events in the order of their `seq`, and can go on from the last one.

use crate::core::shadows::Cursor;

#[derive(Debug)]
pub struct Reading {
    pub router: Box<str>,
    pub cursor: Cursor,
    /// What the client has had of the events ahead.
    told: Vec<Told>,
}

/// A subscription has brought every event that it matches with a number above `after`, up to `until`. It may have ended since.
#[derive(Debug)]
struct Told {
    subscription: u64,
    topic: Option<Box<str>>,
    after: u64,
    until: u64,
}

impl Reading {
    pub fn new(router: &str, cursor: Cursor) -> Self {
        Self { router: router.into(), cursor, told: Vec::new() }
    }

    /// Goes back to `cursor` for a subscription that has missed more than the others.
    pub fn rewind(&mut self, cursor: Cursor) {
        self.cursor = cursor;
        self.told.retain(|told| told.until > cursor.after);
    }

    /// Remembers what a subscription, by its number, has brought.
    pub fn tell(&mut self, subscription: u64, topic: Option<&str>, after: u64, until: u64) {
        match self.told.iter_mut().find(|told| told.subscription == subscription) {
            Some(told) => told.until = told.until.max(until),
            None => self.told.push(Told { subscription, topic: topic.map(Into::into), after, until }),
        }
    }

    pub fn has_told(&self, topic: &str, number: u64) -> bool {
        let is_its = |told: &Told| told.topic.as_deref().is_none_or(|name| name == topic);
        self.told.iter().any(|told| told.after < number && number <= told.until && is_its(told))
    }

    /// Of how many subscriptions it remembers what they brought.
    pub fn remembered(&self) -> usize {
        self.told.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_brought_is_known_even_if_it_is_read_again() {
        let mut reading = Reading::new("hub-1", Cursor::behind(5));
        reading.tell(1, Some("t"), 7, 9);
        assert!(!reading.has_told("t", 7) && reading.has_told("t", 8) && reading.has_told("t", 9));
        assert!(!reading.has_told("t", 10) && !reading.has_told("u", 8));
        reading.rewind(Cursor::behind(2));
        reading.tell(2, None, 4, 5);
        reading.tell(1, Some("t"), 7, 8);
        assert!(reading.has_told("u", 5) && !reading.has_told("u", 6) && reading.has_told("t", 9));
        reading.rewind(Cursor::behind(5));
        assert_eq!(reading.remembered(), 1);
    }
}
