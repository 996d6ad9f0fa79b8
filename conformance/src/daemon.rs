//! Starts the built daemon for one test, on ports of its own, and never leaves it behind.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a daemon may take until it is ready, or until it has refused its configuration.
pub const START_BOUND: Duration = Duration::from_secs(20);

const BINDS: [&str; 4] = ["router.bind", "http.bind", "websocket.app.bind", "websocket.page.bind"];

/// A running daemon. Dropping it kills and reaps the process.
pub struct Daemon {
    pub router: SocketAddr,
    pub http: SocketAddr,
    pub app: SocketAddr,
    pub page: SocketAddr,
    process: Process,
}

/// What a daemon that did not start said: how it ended and its stderr.
pub type Refusal = (ExitStatus, String);

/// How to start a daemon that needs more than a configuration.
#[derive(Default)]
pub struct Launch {
    config: String,
    wrapper: Vec<String>,
    environment: Vec<(String, String)>,
    leave_stderr_unread: bool,
}

impl Launch {
    /// `config` is TOML in dotted keys; the four `bind` keys that it does not set are bound to `127.0.0.1:0`.
    pub fn new(config: &str) -> Self {
        Self { config: config.to_owned(), ..Self::default() }
    }

    /// A command that ends in `exec`ing the daemon, whose command line is appended: `["ip", "netns", "exec", NAME]`.
    pub fn wrapper(mut self, command: &[&str]) -> Self {
        self.wrapper = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Nobody reads the daemon's stderr: its pipe fills up.
    pub fn leave_stderr_unread(mut self) -> Self {
        self.leave_stderr_unread = true;
        self
    }

    pub fn start(self) -> Daemon {
        self.try_start()
            .unwrap_or_else(|(status, stderr)| panic!("the daemon did not start: {status}\n{stderr}"))
    }

    pub fn try_start(self) -> Result<Daemon, Refusal> {
        let mut process = self.spawn();
        let ready = wait_until(START_BOUND, || match process.ready_line() {
            Some(line) => Some(Ok(line)),
            None => process.child.try_wait().expect("wait for the daemon").map(Err),
        });
        match ready.unwrap_or_else(|| panic!("no ready line within {START_BOUND:?}\n{}", process.stderr())) {
            // An exit can be seen before the reader thread has delivered the line of a very short life.
            Err(status) => Err((status, process.stderr_to_end())),
            Ok(line) => {
                let [router, http, app, page] =
                    ["router", "http", "app", "page"].map(|name| address_in(&line, name));
                Ok(Daemon { router, http, app, page, process })
            }
        }
    }

    fn spawn(self) -> Process {
        let directory = tempfile::tempdir().expect("a directory for the configuration");
        let file = directory.path().join("berth.toml");
        std::fs::write(&file, with_binds(&self.config)).expect("write the configuration");
        let daemon = binary();
        let mut command = match self.wrapper.split_first() {
            None => Command::new(daemon),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(daemon);
                command
            }
        };
        command.arg("--config").arg(file).envs(self.environment);
        Process::spawn(command, directory, !self.leave_stderr_unread)
    }
}

impl Daemon {
    /// Starts the built daemon with this TOML and waits for its `ready` line; see [`Launch::new`].
    pub fn start(config: &str) -> Daemon {
        Launch::new(config).start()
    }

    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Sends a signal by its number.
    pub fn signal(&self, signal: i32) {
        let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal number");
        let pid = rustix::process::Pid::from_child(&self.process.child);
        rustix::process::kill_process(pid, signal).expect("signal the daemon");
    }

    /// Waits for the process to end by itself.
    pub fn wait_exit(&mut self, bound: Duration) -> ExitStatus {
        let child = &mut self.process.child;
        let exited = wait_until(bound, || child.try_wait().expect("wait for the daemon"));
        exited.unwrap_or_else(|| panic!("the daemon has not ended within {bound:?}\n{}", self.stderr()))
    }

    pub fn is_running(&mut self) -> bool {
        self.process.child.try_wait().expect("wait for the daemon").is_none()
    }

    /// What it has logged so far.
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// Everything that it has written to stdout so far, the `ready` line included.
    pub fn stdout(&self) -> String {
        text(&self.process.stdout)
    }
}

/// Starts a daemon that may refuse its configuration.
pub fn try_start(config: &str) -> Result<Daemon, Refusal> {
    Launch::new(config).try_start()
}

/// The daemon under test: `$BERTHD`, or the one that was built beside the tests.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("BERTHD") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the path of the test");
    let path = test.ancestors().nth(2).expect("target/<profile>/deps/<test>").join("berthd");
    assert!(path.exists(), "{} is missing: run `cargo build -p berthd`", path.display());
    path
}

/// Polls a condition until it gives a value, and panics with `what` when `bound` has passed.
#[track_caller]
pub fn eventually<T>(what: &str, bound: Duration, condition: impl FnMut() -> Option<T>) -> T {
    wait_until(bound, condition).unwrap_or_else(|| panic!("not within {bound:?}: {what}"))
}

/// Polls a condition until it gives a value, or `bound` has passed.
pub fn wait_until<T>(bound: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + bound;
    loop {
        let value = condition();
        if value.is_some() || Instant::now() >= deadline {
            return value;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The binds come last, so that the line numbers of errors are those of the test's own text.
fn with_binds(config: &str) -> String {
    let sets = |key: &str| {
        config.lines().any(|line| {
            line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
        })
    };
    let mut text = config.to_owned();
    text.push('\n');
    for key in BINDS.into_iter().filter(|key| !sets(key)) {
        writeln!(text, "{key} = \"127.0.0.1:0\"").expect("write to a string");
    }
    text
}

fn address_in(ready: &str, name: &str) -> SocketAddr {
    let prefix = format!("{name}=");
    let field = ready.split_whitespace().find_map(|word| word.strip_prefix(&prefix));
    let first = field.and_then(|addresses| addresses.split(',').next());
    first.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("no {name} address in {ready:?}"))
}

/// The child, and what its two pipes have brought.
struct Process {
    child: Child,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    stderr_reader: Option<JoinHandle<()>>,
    _directory: TempDir,
}

impl Process {
    fn spawn(mut command: Command, directory: TempDir, read_stderr: bool) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let stdout: Arc<Mutex<Vec<u8>>> = Arc::default();
        let stderr: Arc<Mutex<Vec<u8>>> = Arc::default();
        let pipe: ChildStdout = child.stdout.take().expect("stdout is piped");
        collect(pipe, Arc::clone(&stdout));
        let stderr_reader = read_stderr.then(|| {
            let pipe = child.stderr.take().expect("stderr is piped");
            collect(pipe, Arc::clone(&stderr))
        });
        Self { child, stdout, stderr, stderr_reader, _directory: directory }
    }

    fn ready_line(&self) -> Option<String> {
        let stdout = text(&self.stdout);
        let (line, _) = stdout.split_once('\n')?;
        assert!(line.starts_with("ready "), "the first line on stdout is {line:?}");
        Some(line.to_owned())
    }

    fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// All of stderr, of a process that has ended.
    fn stderr_to_end(&mut self) -> String {
        if let Some(reader) = self.stderr_reader.take() {
            reader.join().expect("the reader of stderr");
        }
        self.stderr()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then both calls have nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the daemon ---\n{}", self.stderr());
        }
    }
}

fn collect(pipe: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            into.lock().expect("the collected output").append(&mut line);
        }
    })
}

fn text(collected: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&collected.lock().expect("the collected output")).into_owned()
}
