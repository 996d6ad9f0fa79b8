//! A second thread that looks at the daemon from outside (`/proc`, the kernel's sockets) and inside (its census), so that
//! looking neither waits for the load nor disturbs its timing.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::census::{self, Api, CLASSES};
use crate::proc;
use crate::series::Sample;
use crate::stats::Fault;

/// What one look has seen.
#[derive(Clone, Debug, Default)]
pub struct Look {
    pub sample: Sample,
    pub census: Value,
    /// What must be true of every census and was not; or why there was no census.
    pub faults: Vec<String>,
    /// `VmHWM`.
    pub peak_rss: u64,
    pub threads: usize,
    /// It was asked for, and has an audit of its own.
    pub asked: bool,
}

enum Request {
    Look,
    Phase(String),
}

pub struct Observer {
    requests: Option<Sender<Request>>,
    looks: Receiver<Look>,
    thread: Option<JoinHandle<()>>,
}

/// What is looked at.
#[derive(Clone)]
pub struct Target {
    pub pid: u32,
    pub http: SocketAddr,
    pub listeners: Vec<SocketAddr>,
    pub began: Instant,
}

/// Every so many samples the daemon is asked for a fresh audit; in between the census shows the last one.
const AUDIT_EVERY: u32 = 5;

impl Observer {
    /// Looks every `interval` from now on.
    pub fn start(target: Target, interval: Duration) -> Self {
        let (requests, receiver) = mpsc::channel();
        let (sender, looks) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut eye = Eye { target, api: None, phase: String::new() };
            observe(&mut eye, interval, &receiver, &sender);
        });
        Self { requests: Some(requests), looks, thread: Some(thread) }
    }

    /// Names what the run does from now on.
    pub fn phase(&self, name: &str) {
        self.send(Request::Phase(name.to_string()));
    }

    /// Asks for a look with an audit; it comes out of [`Self::next`] with `asked`.
    pub fn ask(&self) {
        self.send(Request::Look);
    }

    fn send(&self, request: Request) {
        // The thread ends only when this sender is dropped.
        self.requests.as_ref().map(|requests| requests.send(request));
    }

    /// The next look that was made, if there is one.
    pub fn next(&self) -> Option<Look> {
        self.looks.try_recv().ok()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.requests = None;
        self.thread.take().map(JoinHandle::join);
    }
}

fn observe(eye: &mut Eye, interval: Duration, requests: &Receiver<Request>, looks: &Sender<Look>) {
    let mut next = Instant::now() + interval;
    let mut samples = 0u32;
    loop {
        let asked = match requests.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(Request::Look) => true,
            Ok(Request::Phase(name)) => {
                eye.phase = name;
                continue;
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if !asked {
            next += interval;
            samples += 1;
        }
        let look = eye.look(asked, asked || samples.is_multiple_of(AUDIT_EVERY));
        if looks.send(look).is_err() {
            return;
        }
    }
}

struct Eye {
    target: Target,
    /// Kept open from look to look, so that it is among the counted in each of them alike.
    api: Option<Api>,
    phase: String,
}

impl Eye {
    fn look(&mut self, asked: bool, audit: bool) -> Look {
        let mut faults = Vec::new();
        let census = self.census(audit).unwrap_or_else(|error| {
            faults.push(error);
            Value::Null
        });
        if !census.is_null() {
            let found = census::faults(&census).into_iter().chain(census::memory_faults(&census));
            faults.extend(found.map(|Fault { kind, detail }| shown(kind, &detail)));
        }
        let memory = proc::memory(self.target.pid).unwrap_or_default();
        let threads = proc::threads(self.target.pid).unwrap_or(0);
        if threads != 1 {
            faults.push(format!("{threads} entries in /proc/{}/task", self.target.pid));
        }
        let sample = self.sample(&census, &memory);
        Look { sample, census, faults, peak_rss: memory.peak, threads, asked }
    }

    /// Over a connection that is made anew when the daemon has closed the last one.
    fn census(&mut self, audit: bool) -> Result<Value, String> {
        let path = if audit { "/v1/census?audit=1" } else { "/v1/census" };
        if let Some(api) = &mut self.api {
            if let Ok(census) = api.get(path) {
                return Ok(census);
            }
            self.api = None;
        }
        let mut api = Api::connect(self.target.http)?;
        let census = api.get(path)?;
        self.api = Some(api);
        Ok(census)
    }

    fn sample(&self, census: &Value, memory: &proc::Memory) -> Sample {
        let figure = |pointer: &str| census.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let heap = |class: &str| figure(&format!("/classes/{class}/heap_bytes"));
        let live_bytes = figure("/memory/live_bytes");
        Sample {
            at_s: self.target.began.elapsed().as_secs_f64(),
            rss_bytes: memory.rss,
            anon_bytes: memory.anonymous,
            descriptors: proc::descriptors(self.target.pid).unwrap_or(0) as u64,
            kernel_sockets: proc::established_on(&self.target.listeners),
            live_bytes,
            live_without_shadow: live_bytes.saturating_sub(heap("shadow")),
            allocated_from_kernel_bytes: figure("/memory/allocated_from_kernel_bytes"),
            fragmentation_bytes: figure("/memory/fragmentation_bytes"),
            classes: CLASSES
                .iter()
                .map(|class| {
                    let live = figure(&format!("/classes/{class}/live"));
                    (class.to_string(), live, heap(class))
                })
                .collect(),
            verdict: census.pointer("/verdict/state").and_then(Value::as_str).unwrap_or("").to_string(),
            phase: self.phase.clone(),
        }
    }
}

/// An audit that finds one fault may find thousands: the first few tell what it is.
fn shown(kind: &str, detail: &str) -> String {
    let beginning: String = detail.chars().take(400).collect();
    format!("{kind}: {beginning}{}", if beginning.len() < detail.len() { "…" } else { "" })
}
