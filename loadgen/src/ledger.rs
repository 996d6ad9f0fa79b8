//! Every command that was sent and is not settled yet: so that each reaches its router once, and each is answered once.

use std::collections::{HashMap, HashSet};

use crate::stats::Fault;

struct Open {
    oneway: bool,
    reached_router: bool,
}

/// A nonce is the caller's number above [`CALLER_SHIFT`] and its count below.
const CALLER_SHIFT: u32 = 32;

/// All open commands of the run, by nonce.
#[derive(Default)]
pub struct Ledger {
    open: HashMap<u64, Open>,
    /// Answered with an error before a router had them: they may still come, once.
    given_up: HashSet<u64>,
    /// The last one-way count of each caller at each router: their order is promised.
    oneway_order: HashMap<(u32, u32), u64>,
}

/// The nonce of a caller's `count`th command.
pub fn nonce(caller: u32, count: u32) -> u64 {
    u64::from(caller) << CALLER_SHIFT | u64::from(count)
}

/// The caller of a nonce.
pub fn caller(nonce: u64) -> u32 {
    (nonce >> CALLER_SHIFT) as u32
}

impl Ledger {
    pub fn sent(&mut self, nonce: u64, oneway: bool) {
        self.open.insert(nonce, Open { oneway, reached_router: false });
    }

    /// A router received the command.
    ///
    /// # Errors
    /// It came twice, was never sent or already settled, or a one-way command overtook another of its caller.
    pub fn reached(&mut self, nonce: u64, router: u32) -> Result<(), Fault> {
        let Some(open) = self.open.get_mut(&nonce) else {
            if self.given_up.remove(&nonce) {
                return Ok(());
            }
            return Err(Fault::new(
                "command_unknown",
                format!("{nonce:#x} reached a router, but is not open"),
            ));
        };
        if std::mem::replace(&mut open.reached_router, true) {
            return Err(Fault::new("command_doubled", format!("{nonce:#x} reached a router twice")));
        }
        if open.oneway {
            self.open.remove(&nonce);
            let last = self.oneway_order.entry((router, caller(nonce))).or_default();
            if *last >= nonce {
                return Err(Fault::new("oneway_order", format!("{nonce:#x} came behind {last:#x}")));
            }
            *last = nonce;
        }
        Ok(())
    }

    /// The caller has its answer. Returns whether the router had the command. A one-way command that was accepted stays
    /// open until its router has it: for those, call this only when they were refused.
    pub fn settled(&mut self, nonce: u64) -> bool {
        self.open.remove(&nonce).is_some_and(|open| open.reached_router)
    }

    /// The caller got an error, or its connection ended: a command that was on its way may still reach the router.
    /// Returns whether the router had it already.
    pub fn given_up(&mut self, nonce: u64) -> bool {
        let reached_router = self.settled(nonce);
        if !reached_router {
            self.given_up.insert(nonce);
        }
        reached_router
    }

    /// Commands that are not settled: at the end there must be none.
    pub fn open(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_awaited_command_is_open_until_its_answer() {
        let mut ledger = Ledger::default();
        ledger.sent(nonce(1, 1), false);
        assert_eq!(ledger.reached(nonce(1, 1), 0), Ok(()));
        assert_eq!(ledger.reached(nonce(1, 1), 0).unwrap_err().kind, "command_doubled");
        assert!(ledger.settled(nonce(1, 1)));
        assert_eq!(ledger.reached(nonce(1, 1), 0).unwrap_err().kind, "command_unknown");
        assert_eq!(ledger.open(), 0);
    }

    #[test]
    fn an_answer_before_the_router_had_the_command_is_seen() {
        let mut ledger = Ledger::default();
        ledger.sent(7, false);
        assert!(!ledger.settled(7));
    }

    #[test]
    fn a_command_that_was_given_up_may_come_once() {
        let mut ledger = Ledger::default();
        ledger.sent(7, false);
        assert!(!ledger.given_up(7));
        assert_eq!(ledger.open(), 0);
        assert_eq!(ledger.reached(7, 0), Ok(()));
        assert_eq!(ledger.reached(7, 0).unwrap_err().kind, "command_unknown");
    }

    #[test]
    fn one_way_commands_keep_their_order_and_come_once() {
        let mut ledger = Ledger::default();
        for count in 1..=3 {
            ledger.sent(nonce(2, count), true);
        }
        assert_eq!(ledger.reached(nonce(2, 1), 5), Ok(()));
        assert_eq!(ledger.reached(nonce(2, 3), 5), Ok(()));
        assert_eq!(ledger.reached(nonce(2, 2), 5).unwrap_err().kind, "oneway_order");
        assert_eq!(ledger.reached(nonce(2, 3), 5).unwrap_err().kind, "command_unknown");
        assert_eq!(ledger.open(), 0);
    }
}
