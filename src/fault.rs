//! Faults that a test plants to show that the simulator finds them: each skips one release, one stale check or one answer.
//!
//! Without the feature `planted-faults`, which no release has, [`planted`] is a constant `false` and costs nothing.

/// What can be skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Releases.
    KeepSocket,
    KeepTimer,
    KeepCommandTimer,
    KeepQueuedFrames,
    KeepSubscriptions,
    KeepRegistryEntry,
    KeepHeldBytes,
    KeepCommandsOfRouter,
    KeepCommandsOfCaller,
    KeepTurn,
    KeepAddressCount,
    KeepUnbindCount,
    /// Checks for a stale token.
    TrustStaleEvent,
    TrustStaleTimer,
    TrustStaleCommandTimer,
    TrustStaleCaller,
    TrustStaleRegistryEntry,
    /// Answers.
    NoReply,
    NoRouterError,
    NoDeadline,
    NoRouterLost,
    NoDraining,
    NoOffline,
    NoBusy,
}

impl Fault {
    pub const ALL: [Fault; 24] = [
        Fault::KeepSocket,
        Fault::KeepTimer,
        Fault::KeepCommandTimer,
        Fault::KeepQueuedFrames,
        Fault::KeepSubscriptions,
        Fault::KeepRegistryEntry,
        Fault::KeepHeldBytes,
        Fault::KeepCommandsOfRouter,
        Fault::KeepCommandsOfCaller,
        Fault::KeepTurn,
        Fault::KeepAddressCount,
        Fault::KeepUnbindCount,
        Fault::TrustStaleEvent,
        Fault::TrustStaleTimer,
        Fault::TrustStaleCommandTimer,
        Fault::TrustStaleCaller,
        Fault::TrustStaleRegistryEntry,
        Fault::NoReply,
        Fault::NoRouterError,
        Fault::NoDeadline,
        Fault::NoRouterLost,
        Fault::NoDraining,
        Fault::NoOffline,
        Fault::NoBusy,
    ];
}

#[cfg(feature = "planted-faults")]
mod switch {
    use super::Fault;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// Plants one fault in this thread, or none.
    pub fn plant(fault: Option<Fault>) {
        PLANTED.set(fault);
    }

    pub fn planted(fault: Fault) -> bool {
        PLANTED.get() == Some(fault)
    }
}

#[cfg(not(feature = "planted-faults"))]
mod switch {
    use super::Fault;

    pub const fn planted(_: Fault) -> bool {
        false
    }
}

pub use switch::*;
