//! What one watcher must see: each watched router's events in order, without a gap or a double, up to the last one.

use crate::stats::Fault;

/// The state for one router.
#[derive(Clone, Default)]
struct Expected {
    /// The router's own number of the next event. Before the first one it is the highest that may come first.
    next: u64,
    started: bool,
    /// The last number of the retained topic: for one subscriber it never goes back.
    retained: u64,
}

/// The order of events at one watcher: of one router, or of all.
pub struct EventOrder {
    first_router: u32,
    routers: Vec<Expected>,
}

impl EventOrder {
    /// Watches `router`, or all `count` routers.
    pub fn new(router: Option<u32>, count: usize) -> Self {
        let watched = if router.is_some() { 1 } else { count };
        Self { first_router: router.unwrap_or(0), routers: vec![Expected::default(); watched] }
    }

    /// The subscription holds from now on: every later event must come. `emitted` says how many each router has sent.
    pub fn subscribed(&mut self, emitted: impl Fn(u32) -> u64) {
        for (router, expected) in (self.first_router..).zip(&mut self.routers) {
            if !expected.started {
                expected.next = emitted(router) + 1;
            }
        }
    }

    /// A live event, number `n` of `router`.
    ///
    /// # Errors
    /// A gap, a double or an event of a router that is not watched.
    pub fn live(&mut self, router: u32, n: u64, retain: bool) -> Result<(), Fault> {
        let Some(expected) = self.expected(router) else { return Err(not_watched(router)) };
        // An event that was on its way when the subscription was answered may be the first.
        let result = match n.cmp(&expected.next) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less if !expected.started => Ok(()),
            std::cmp::Ordering::Less => {
                let detail = format!("router {router}: {n} came again, {} was due", expected.next);
                return Err(Fault::new("event_doubled", detail));
            }
            std::cmp::Ordering::Greater if expected.next == 0 => Ok(()),
            std::cmp::Ordering::Greater => {
                Err(Fault::new("event_gap", format!("router {router}: {n} came, {} was due", expected.next)))
            }
        };
        (expected.next, expected.started) = (n + 1, true);
        if retain {
            expected.retained = n;
        }
        result
    }

    /// A value that the server had retained, number `n` of `router`.
    ///
    /// # Errors
    /// It is not newer than the one before it, or of a router that is not watched.
    pub fn retained(&mut self, router: u32, n: u64) -> Result<(), Fault> {
        let Some(expected) = self.expected(router) else { return Err(not_watched(router)) };
        if n <= expected.retained {
            let detail = format!("router {router}: retained {n} behind {}", expected.retained);
            return Err(Fault::new("retained_went_back", detail));
        }
        expected.retained = n;
        Ok(())
    }

    /// Events that have been emitted since the subscription and have not come.
    pub fn missing(&self, emitted: impl Fn(u32) -> u64) -> u64 {
        (self.first_router..)
            .zip(&self.routers)
            .map(|(router, expected)| (emitted(router) + 1).saturating_sub(expected.next.max(1)))
            .sum()
    }

    fn expected(&mut self, router: u32) -> Option<&mut Expected> {
        self.routers.get_mut(router.checked_sub(self.first_router)? as usize)
    }
}

fn not_watched(router: u32) -> Fault {
    Fault::new("event_not_watched", format!("router {router} is not watched"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(result: Result<(), Fault>) -> &'static str {
        result.err().map_or("", |fault| fault.kind)
    }

    #[test]
    fn events_come_in_order_from_the_subscription_on() {
        let mut order = EventOrder::new(None, 2);
        order.subscribed(|router| u64::from(router) * 10);
        assert_eq!(order.missing(|router| u64::from(router) * 10), 0);
        assert_eq!(kind(order.live(0, 1, false)), "");
        assert_eq!(kind(order.live(0, 2, false)), "");
        assert_eq!(order.missing(|router| 3 + u64::from(router) * 10), 4);
        assert_eq!(kind(order.live(1, 11, false)), "");
        assert_eq!(kind(order.live(2, 1, false)), "event_not_watched");
    }

    #[test]
    fn a_gap_and_a_double_are_seen() {
        let mut order = EventOrder::new(Some(4), 9);
        order.subscribed(|_| 0);
        assert_eq!(kind(order.live(4, 2, false)), "event_gap");
        assert_eq!(kind(order.live(4, 2, false)), "event_doubled");
        assert_eq!(kind(order.live(4, 1, false)), "event_doubled");
        assert_eq!(kind(order.live(4, 3, false)), "");
        assert_eq!(kind(order.live(3, 3, false)), "event_not_watched");
    }

    #[test]
    fn the_first_event_may_be_one_that_was_on_its_way_but_none_later() {
        let begun = || {
            let mut order = EventOrder::new(Some(0), 1);
            order.subscribed(|_| 5);
            order
        };
        assert_eq!(kind(begun().live(0, 4, false)), "");
        assert_eq!(kind(begun().live(0, 6, false)), "");
        assert_eq!(kind(begun().live(0, 7, false)), "event_gap");
        let mut order = begun();
        order.live(0, 4, false).unwrap();
        assert_eq!(order.missing(|_| 5), 1);
    }

    #[test]
    fn a_retained_value_never_goes_back() {
        let mut order = EventOrder::new(Some(0), 1);
        order.subscribed(|_| 7);
        assert_eq!(kind(order.retained(0, 5)), "");
        assert_eq!(kind(order.live(0, 8, true)), "");
        assert_eq!(kind(order.retained(0, 8)), "retained_went_back");
    }
}
