//! What a scenario is.

use super::stage::Stage;

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    Full,
    /// For a debug build in CI.
    Quick,
}

impl Scale {
    pub fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

/// One failure of the past.
pub struct Scenario {
    pub name: &'static str,
    /// The symptom of then.
    pub then: &'static str,
    /// The finding that is about this failure and no other: it must fall short under `plant`.
    pub own: &'static str,
    /// The daemon's fault (its feature `planted-faults`) that brings the failure back.
    pub plant: &'static str,
    /// Router ids.
    pub routers: fn(Scale) -> usize,
    /// The daemon's configuration, TOML in dotted keys.
    pub config: &'static str,
    /// Plays it and returns the figure of now.
    pub play: fn(&mut Stage, Scale) -> Result<String, String>,
}
