//! Faults that a test plants to show that the simulator finds them: each skips one release, one stale check or one answer.
//!
//! Without the feature `planted-faults`, which no release has, [`planted`] is a constant `false` and costs nothing.

/// Makes the enum and the list of all of it from one place.
macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident,)*) => {
        /// What can be skipped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$doc])* $fault,)*
        }

        impl Fault {
            pub const ALL: &[Fault] = &[$(Fault::$fault,)*];
        }
    };
}

faults! {
    /// Releases.
    KeepSocket,
    KeepTimer,
    KeepCommandTimer,
    KeepQueuedFrames,
    KeepSubscriptions,
    KeepChannel,
    KeepReplay,
    KeepRegistryEntry,
    KeepHeldBytes,
    KeepInput,
    KeepHalfReply,
    KeepCommandsOfRouter,
    KeepCommandsOfCaller,
    KeepCallerEntry,
    KeepCommandIndex,
    KeepTurn,
    KeepAddressCount,
    KeepUnbindCount,
    KeepShadow,
    /// Checks for a stale token: of an event, of either timer, of the registry; and the table's own, which every reply and every
    /// watcher's token passes.
    TrustStaleEvent,
    TrustStaleTimer,
    TrustStaleCommandTimer,
    TrustStaleRegistryEntry,
    TrustStaleToken,
    /// Answers: to a command by what became of it, by who asked, and to everything else that awaits one.
    NoReply,
    NoRouterError,
    NoDeadline,
    NoRouterLost,
    NoDrained,
    NoDraining,
    NoOffline,
    NoBusy,
    NoHttpAnswer,
    NoRpcAnswer,
    NoBatchAnswer,
    NoHttpResult,
    NoRpcResult,
    NoAbort,
    NoPong,
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
