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

/// Something that went wrong once, or could.
pub struct Scenario {
    pub name: &'static str,
    /// The symptom of then.
    pub then: &'static str,
    /// How the scenario itself is put to the test.
    pub planted: Option<Planted>,
    /// Router ids.
    pub routers: fn(Scale) -> usize,
    /// The daemon's configuration, TOML in dotted keys.
    pub config: &'static str,
    /// Plays it and returns the figure of now.
    pub play: fn(&mut Stage, Scale) -> Result<String, String>,
}

/// The fault that brings a failure back.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// The finding that is about this failure and no other: it must fall short under `fault`.
    pub own: &'static str,
    /// As the daemon's feature `planted-faults` knows it.
    pub fault: &'static str,
}
