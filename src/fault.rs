//! Faults that a test plants to show that it is seen: each skips one release, one stale check or one answer, or lets memory
//! leak in one of the ways of old.
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

            /// Seen from outside and over time, by loadgen's scenarios, and not in a schedule of the simulation.
            pub fn needs_time(self) -> bool {
                matches!(
                    self,
                    Fault::HoardReplies | Fault::StarveHeartbeats | Fault::KeepMemory
                )
            }

            /// The fault of a name, for a daemon that is told by `BERTH_PLANT`.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|fault| format!("{fault:?}") == name)
            }
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
    KeepHistory,
    KeepWatch,
    KeepRegistryEntry,
    KeepHeldBytes,
    KeepInput,
    KeepHalfReply,
    KeepCommandsOfRouter,
    KeepCommandsOfCaller,
    KeepCallerEntry,
    KeepCommandIndex,
    KeepFleetMessage,
    KeepTurn,
    KeepAddressCount,
    KeepUnbindCount,
    KeepShadow,
    KeepTask,
    KeepStreamTimer,
    KeepStreamIndex,
    KeepStreamsOfRouter,
    /// Checks for a stale token: of an event, of either timer, of the registry; and the table's own, which every reply and every
    /// watcher's token passes.
    TrustStaleEvent,
    TrustStaleTimer,
    TrustStaleCommandTimer,
    TrustStaleRegistryEntry,
    TrustStaleToken,
    /// What a stream checks: its window, the form of its rows, what its consumer has taken before an ACK and before an OPEN.
    TrustWindow,
    TrustFormat,
    EarlyAck,
    GrantTwice,
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
    NoFleetAnswer,
    NoFleetEnd,
    NoFleetResumption,
    NoBatchAnswer,
    NoHttpResult,
    NoRpcResult,
    NoAbort,
    NoAck,
    NoCancel,
    NoResume,
    NoStreamEnd,
    NoStreamError,
    NoStreamLost,
    NoPong,
    /// Leaks, which the verdict must name: what ended keeps its box, its entry past its deadline; a short value keeps the long
    /// buffer it came in; names are interned and never forgotten; replies are hoarded by whoever passed them on.
    LeakConnection,
    KeepCommandEntry,
    KeepBySlice,
    InternNames,
    HoardReplies,
    /// The lanes are one; unused memory is never given back.
    StarveHeartbeats,
    KeepMemory,
}

#[cfg(feature = "planted-faults")]
mod switch {
    use super::Fault;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
        static BEARS_WITH_IMBALANCE: Cell<bool> = const { Cell::new(false) };
    }

    /// Plants the fault that `BERTH_PLANT` names, in a daemon that is to live on with it and be watched from outside.
    ///
    /// # Errors
    /// There is no fault of that name.
    pub fn plant_from_env() -> Result<(), String> {
        let Ok(name) = std::env::var("BERTH_PLANT") else { return Ok(()) };
        let fault = Fault::named(&name).ok_or_else(|| format!("BERTH_PLANT: there is no fault {name}"))?;
        BEARS_WITH_IMBALANCE.set(true);
        plant(Some(fault));
        Ok(())
    }

    /// Whether an account that does not balance at unbind is only counted, not a panic.
    pub fn bears_with_imbalance() -> bool {
        BEARS_WITH_IMBALANCE.get()
    }

    /// To watch what becomes of a planted leak.
    pub fn bear_with_imbalance(bears: bool) {
        BEARS_WITH_IMBALANCE.set(bears);
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

    pub const fn plant_from_env() -> Result<(), String> {
        Ok(())
    }

    pub const fn bears_with_imbalance() -> bool {
        false
    }
}

pub use switch::*;
