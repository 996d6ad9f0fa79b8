//! What a long run leaves behind: samples over time, and chapters for the report.

/// One look at the daemon from outside (`/proc`, the kernel's sockets) and inside (its census).
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Since the run's start, in seconds.
    pub at_s: f64,
    /// `VmRSS`.
    pub rss_bytes: u64,
    /// `RssAnon`: resident without mapped files.
    pub anon_bytes: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Established sockets of the daemon's ports, counted by the kernel.
    pub kernel_sockets: u64,
    pub live_bytes: u64,
    pub live_without_shadow: u64,
    pub allocated_from_kernel_bytes: u64,
    pub fragmentation_bytes: u64,
    /// Class, live objects, heap bytes; always in the same order.
    pub classes: Vec<(String, u64, u64)>,
    /// `memory` verdict's state.
    pub verdict: String,
    /// What the run was doing.
    pub phase: String,
}

/// A finished scenario for the report.
#[derive(Clone, Debug, Default)]
pub struct Chapter {
    pub name: String,
    /// The symptom of then.
    pub then: String,
    /// The figure of now.
    pub now: String,
    pub passed: bool,
    pub findings: Vec<Finding>,
    pub samples: Vec<Sample>,
    pub notes: Vec<String>,
}

/// One thing that was measured, and the bound that it was held against.
#[derive(Clone, Debug, Default)]
pub struct Finding {
    pub what: String,
    pub figure: String,
    pub bound: String,
    pub passed: bool,
}
