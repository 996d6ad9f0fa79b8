//! A daemon, or a bare baseline, that loadgen starts itself: the ready line gives its ports, SIGTERM ends it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::options::Addresses;

/// Without a configuration of the user's: the defaults, on ports that the kernel picks.
const FREE_PORTS: &str = "\
[router]
bind = \"127.0.0.1:0\"
[http]
bind = \"127.0.0.1:0\"
[websocket.app]
bind = \"127.0.0.1:0\"
[websocket.page]
bind = \"127.0.0.1:0\"
";

/// A process whose first line on stdout was `ready NAME=ADDR…`. It is killed when dropped.
pub struct Process {
    child: Child,
    ready: String,
    scratch_config: Option<PathBuf>,
}

impl Process {
    /// Starts `program` and waits for its ready line.
    ///
    /// # Errors
    /// It cannot be started, or says nothing within 10 s.
    pub fn start(program: &Path, args: &[&str], log: Option<&Path>) -> Result<Self, String> {
        Self::start_with(program, args, log, &[])
    }

    fn start_with(
        program: &Path,
        args: &[&str],
        log: Option<&Path>,
        environment: &[(&str, &str)],
    ) -> Result<Self, String> {
        let shown = program.display();
        let stderr = match log {
            Some(path) => File::create(path).map_err(|e| format!("{}: {e}", path.display()))?.into(),
            None => Stdio::null(),
        };
        let mut child = Command::new(program)
            .args(args)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|e| format!("{shown}: {e}"))?;
        let stdout = child.stdout.take().expect("it is piped");
        let mut process = Self { child, ready: String::new(), scratch_config: None };
        // A thread only for this line: a pipe has no read timeout, and the loop has not begun.
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(read.map(|_| line));
        });
        match receiver.recv_timeout(Duration::from_secs(10)) {
            Ok(Ok(line)) if line.starts_with("ready ") => process.ready = line,
            other => return Err(format!("{shown}: no ready line, but {other:?}")),
        }
        Ok(process)
    }

    /// Starts a daemon, with `config` or on free ports.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_daemon(program: &Path, config: Option<&Path>, log: Option<&Path>) -> Result<Self, String> {
        match config {
            Some(config) => {
                let config = config.to_str().ok_or("a path of the configuration that is not UTF-8")?;
                Self::start(program, &["--config", config], log)
            }
            None => Self::start_configured(program, FREE_PORTS, log, &[]),
        }
    }

    /// Starts a daemon with the configuration `toml`, in an environment with `environment` added.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_configured(
        program: &Path,
        toml: &str,
        log: Option<&Path>,
        environment: &[(&str, &str)],
    ) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("loadgen-{}-{}.toml", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, toml).map_err(|e| format!("{}: {e}", path.display()))?;
        let config = path.to_str().ok_or("a directory for temporary files that is not UTF-8")?;
        let started = Self::start_with(program, &["--config", config], log, environment);
        match started {
            Ok(mut process) => {
                process.scratch_config = Some(path);
                Ok(process)
            }
            Err(error) => {
                // It was ours alone; that it did not start is the error to tell.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All addresses that the ready line gives for `name`; at least one.
    ///
    /// # Errors
    /// There is none.
    pub fn listeners(&self, name: &str) -> Result<Vec<SocketAddr>, String> {
        let mut words = self.ready.split_whitespace();
        let addresses = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let parsed = addresses.map(|all| all.split(',').map(str::parse).collect::<Result<Vec<_>, _>>());
        match parsed {
            Some(Ok(addresses)) => Ok(addresses),
            _ => Err(format!("no addresses of {name} in {:?}", self.ready)),
        }
    }

    /// The first address that the ready line gives for `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn address(&self, name: &str) -> Result<SocketAddr, String> {
        Ok(self.listeners(name)?[0])
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The daemon's four addresses.
    ///
    /// # Errors
    /// One is missing in the ready line.
    pub fn addresses(&self) -> Result<Addresses, String> {
        Ok(Addresses {
            router: self.address("router")?,
            http: self.address("http")?,
            app: self.address("app")?,
            page: self.address("page")?,
        })
    }

    /// SIGTERM, and how it ended.
    ///
    /// # Errors
    /// It did not end within `patience`.
    pub fn stop(mut self, patience: Duration) -> Result<ExitStatus, String> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).map_err(|e| format!("SIGTERM: {e}"))?;
        let until = Instant::now() + patience;
        while Instant::now() < until {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(format!("it did not end within {patience:?} after SIGTERM"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.scratch_config.take().map(fs::remove_file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Process, String> {
        Process::start(Path::new("/bin/sh"), &["-c", script], None)
    }

    #[test]
    fn the_ready_line_gives_the_addresses() {
        let script =
            "echo ready router=127.0.0.1:1 http=127.0.0.1:2 app=[::1]:3 page=127.0.0.1:4; exec sleep 60";
        let process = shell(script).unwrap();
        let addresses = process.addresses().unwrap();
        assert_eq!(addresses.app.to_string(), "[::1]:3");
        assert_eq!(addresses.page.port(), 4);
        assert!(process.address("nobody").is_err());
        let status = process.stop(Duration::from_secs(10)).unwrap();
        assert!(!status.success());
    }

    #[test]
    fn a_program_that_is_not_ready_is_an_error() {
        assert!(shell("echo hello").is_err());
        assert!(shell("exit 3").is_err());
        assert!(Process::start(Path::new("/no/such/program"), &[], None).is_err());
    }
}
