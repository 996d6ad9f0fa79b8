//! systemd's side channels: readiness and watchdog (sd_notify(3)), and the refusal of inherited sockets.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Tells the service manager how we are; without one (no NOTIFY_SOCKET) it tells nobody.
///
/// Nothing here blocks or fails: a manager that does not listen must not stop the daemon.
pub struct Notifier {
    socket: Option<UnixDatagram>,
}

impl Notifier {
    /// From NOTIFY_SOCKET: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// The socket that is named cannot be reached. The daemon goes on without, but the operator should know.
    pub fn from_env() -> io::Result<Self> {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(name) => Self::connect(&name),
            None => Ok(Self::silent()),
        }
    }

    pub fn silent() -> Self {
        Self { socket: None }
    }

    fn connect(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::other(format!("NOTIFY_SOCKET {name:?} is no unix socket"))),
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some(socket) })
    }

    /// All listeners listen.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}\n", one_line(status)));
    }

    /// The drain has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1\n");
    }

    /// The line that `systemctl status` shows.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}\n", one_line(text)));
    }

    /// The loop still turns.
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1\n");
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket {
            // Lost when the manager is gone or its queue is full; the next one may arrive.
            let _ = socket.send(message.as_bytes());
        }
    }
}

/// A line end would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// How often [`Notifier::watchdog`] is due: half of WATCHDOG_USEC, as sd_watchdog_enabled(3) advises. `None` when
/// there is no watchdog, or when it is meant for another process (WATCHDOG_PID).
pub fn watchdog_interval() -> Option<Duration> {
    let var = |name| std::env::var(name).ok();
    watchdog_of(var("WATCHDOG_USEC").as_deref(), var("WATCHDOG_PID").as_deref())
}

fn watchdog_of(usec: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    if pid.is_some_and(|pid| !is_ours(pid)) {
        return None;
    }
    let usec: u64 = usec?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec) / 2)
}

/// Socket activation is a later version's: a daemon that bound its own addresses beside the inherited sockets would
/// listen where nobody looks.
///
/// # Errors
/// Sockets were passed to this process (LISTEN_FDS, LISTEN_PID; sd_listen_fds(3)). The caller exits with 2.
pub fn refuse_socket_activation() -> Result<(), String> {
    let var = |name| std::env::var(name).ok();
    refuse_sockets(var("LISTEN_FDS").as_deref(), var("LISTEN_PID").as_deref())
}

fn refuse_sockets(count: Option<&str>, pid: Option<&str>) -> Result<(), String> {
    match count {
        None | Some("" | "0") => Ok(()),
        Some(count) if pid.is_some_and(is_ours) => Err(format!(
            "{count} sockets inherited (LISTEN_FDS): socket activation is not supported yet in this version"
        )),
        Some(_) => Ok(()),
    }
}

fn is_ours(pid: &str) -> bool {
    pid.parse() == Ok(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn messages_reach_an_abstract_socket() {
        let name = format!("berth-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let notifier = Notifier::connect(OsStr::new(&format!("@{name}"))).unwrap();
        notifier.ready("200 routers\nMAINPID=1");
        assert_eq!(received(&manager), "READY=1\nSTATUS=200 routers MAINPID=1\n");
        notifier.status("draining");
        assert_eq!(received(&manager), "STATUS=draining\n");
        notifier.watchdog();
        assert_eq!(received(&manager), "WATCHDOG=1\n");
        notifier.stopping();
        assert_eq!(received(&manager), "STOPPING=1\n");
    }

    #[test]
    fn messages_reach_a_path() {
        let path = std::env::temp_dir().join(format!("berth-test-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Notifier::connect(path.as_os_str()).unwrap().watchdog();
        assert_eq!(received(&manager), "WATCHDOG=1\n");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_manager_that_does_not_read_blocks_nobody() {
        let name = format!("berth-test-full-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notifier = Notifier::connect(OsStr::new(&format!("@{name}"))).unwrap();
        (0..10_000).for_each(|_| notifier.watchdog());
        drop(manager);
        notifier.watchdog();
        Notifier::silent().watchdog();
        assert!(Notifier::connect(OsStr::new(&format!("@{name}"))).is_err());
        assert!(Notifier::connect(OsStr::new("relative")).is_err());
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_it_asks() {
        let ours = std::process::id().to_string();
        assert_eq!(watchdog_of(Some("30000000"), None), Some(Duration::from_secs(15)));
        assert_eq!(watchdog_of(Some("30000000"), Some(&ours)), Some(Duration::from_secs(15)));
        assert_eq!(watchdog_of(Some("30000000"), Some("1")), None);
        assert_eq!(watchdog_of(None, None), None);
        assert_eq!(watchdog_of(Some("0"), None), None);
        assert_eq!(watchdog_of(Some("soon"), None), None);
    }

    #[test]
    fn sockets_meant_for_us_are_refused() {
        let ours = std::process::id().to_string();
        assert!(refuse_sockets(Some("4"), Some(&ours)).unwrap_err().contains("not supported yet"));
        assert_eq!(refuse_sockets(Some("4"), Some("1")), Ok(()));
        assert_eq!(refuse_sockets(Some("4"), None), Ok(()));
        assert_eq!(refuse_sockets(None, Some(&ours)), Ok(()));
    }
}
