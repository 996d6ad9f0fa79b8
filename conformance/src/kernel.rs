//! What the kernel knows of a connection and of a process: `ss` of iproute2, and `/proc`.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

/// One line of `ss`: a TCP socket as its kernel sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    pub state: String,
    /// Bytes that came and were not read yet.
    pub receive_queue: u64,
    /// Bytes that were written and not acknowledged yet.
    pub send_queue: u64,
    /// Everything else: timers, `skmem`, the congestion control's figures.
    pub rest: String,
}

impl Tcp {
    /// The socket from `local` to `peer`, in the network namespace of this thread.
    pub fn find(local: SocketAddr, peer: SocketAddr) -> Option<Self> {
        let (local, peer) = (local.to_string(), peer.to_string());
        let text = run("ss", &["-Htnoiem", "src", &local, "dst", &peer]);
        let mut words = text.split_whitespace();
        Some(Self {
            state: words.next()?.to_owned(),
            receive_queue: words.next()?.parse().ok()?,
            send_queue: words.next()?.parse().ok()?,
            rest: words.collect::<Vec<_>>().join(" "),
        })
    }

    /// The daemon's end of a connection that was made here.
    pub fn other_end(stream: &TcpStream) -> Option<Self> {
        Self::find(stream.peer_addr().ok()?, stream.local_addr().ok()?)
    }
}

/// Waits until the kernels have taken all that they take for a peer that does not read, and says how many bytes that is.
pub fn settled(stream: &TcpStream) -> u64 {
    let held = || {
        let near = Tcp::find(stream.local_addr().ok()?, stream.peer_addr().ok()?)?;
        Some(near.receive_queue + Tcp::other_end(stream)?.send_queue)
    };
    let deadline = Instant::now() + Duration::from_secs(15);
    let (mut last, mut same) = (None, 0);
    while same < 10 {
        assert!(Instant::now() < deadline, "the kernels still take more");
        std::thread::sleep(Duration::from_millis(10));
        let now = held();
        same = if now == last && now.is_some() { same + 1 } else { 0 };
        last = now;
    }
    last.expect("both ends")
}

/// User and system time that a process has used so far.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc/PID/stat");
    // proc(5): the command stands in brackets and may hold anything; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(") ").expect("a command in brackets");
    let mut fields = fields.split(' ').skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<u64>().ok()).expect("a number of ticks");
    let ticks = ticks() + ticks();
    let per_second = rustix::param::clock_ticks_per_second();
    Duration::from_millis(ticks * 1000 / per_second)
}

/// How many descriptors a process has open.
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("/proc/PID/fd").count()
}

/// A field of `/proc/PID/status` that is in kB, as bytes: proc(5).
pub fn status_bytes(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("/proc/PID/status");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    1024 * kilobytes.and_then(|number| number.parse::<u64>().ok()).expect("a field in kB")
}

/// Raises this process's descriptor limit to the hard one, and says how many that is.
pub fn raise_descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("setrlimit");
    maximum.unwrap_or(u64::MAX)
}

/// Lowers the descriptor limit of a running process, which keeps those that it has: prlimit(2).
pub fn limit_descriptors(pid: u32, limit: u64) {
    let pid = rustix::process::Pid::from_raw(pid as i32);
    let limit = rustix::process::Rlimit { current: Some(limit), maximum: Some(limit) };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).expect("prlimit");
}

/// Runs a tool and returns its stdout. Panics when it is missing or fails.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed (iproute2): {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
