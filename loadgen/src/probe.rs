//! A router of its own thread that does nothing but PING: how long the daemon takes to answer, whatever loadgen's own loop
//! is busy with.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::frame::{self, Frame, Welcome};
use crate::stats::Latency;

/// A PONG that takes longer means that the daemon does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Probe {
    latency: Arc<Mutex<Latency>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), String>>,
}

impl Probe {
    /// Binds as the router `id` and PINGs every `pause`.
    ///
    /// # Errors
    /// Nobody listens at `address`, or the session is refused.
    pub fn start(address: SocketAddr, id: &str, pause: Duration) -> Result<Self, String> {
        let mut session = Session::begin(address, id)?;
        let latency = Arc::new(Mutex::new(Latency::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (recorded, stopped) = (latency.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let took = session.ping()?;
                recorded.lock().expect("nobody panics with it").record_ns(took.as_nanos() as u64);
                std::thread::sleep(pause);
            }
            Ok(())
        });
        Ok(Self { latency, stop, thread })
    }

    /// What was measured since the last time.
    pub fn take(&self) -> Latency {
        std::mem::take(&mut self.latency.lock().expect("nobody panics with it"))
    }

    /// Closes the session.
    ///
    /// # Errors
    /// It had ended before, or a PONG was missing.
    pub fn end(self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the probe panicked".to_string())?
    }
}

struct Session {
    stream: TcpStream,
    bytes: Vec<u8>,
    next: u32,
}

impl Session {
    fn begin(address: SocketAddr, id: &str) -> Result<Self, String> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        let stream = stream.map_err(|e| format!("probe: {address}: {e}"))?;
        let mut session = Self { stream, bytes: Vec::new(), next: 1 };
        session.send(frame::HELLO, 1, id, b"")?;
        session.await_frame(|frame| match frame.kind {
            frame::WELCOME => Welcome::parse(frame).map(|_| true),
            kind => Err(format!("a frame of kind {kind:#04x} instead of WELCOME")),
        })?;
        Ok(session)
    }

    fn send(&mut self, kind: u8, id: u32, name: &str, body: &[u8]) -> Result<(), String> {
        let mut out = Vec::new();
        frame::encode(&mut out, kind, 0, id, name, body);
        self.stream.write_all(&out).map_err(|e| format!("probe: {e}"))
    }

    /// One PING and its PONG.
    fn ping(&mut self) -> Result<Duration, String> {
        self.next += 1;
        let (id, began) = (self.next, Instant::now());
        self.send(frame::PING, id, "", b"probe")?;
        self.await_frame(|frame| match frame.kind {
            frame::PONG if frame.id == id && frame.body == b"probe" => Ok(true),
            // The daemon may ask too; whoever PINGs all the time has answered already.
            frame::PING => Ok(false),
            kind => Err(format!("a frame of kind {kind:#04x}, {:?}", frame.name)),
        })?;
        Ok(began.elapsed())
    }

    /// Reads until `found`.
    fn await_frame(&mut self, found: impl Fn(&Frame<'_>) -> Result<bool, String>) -> Result<(), String> {
        let mut chunk = [0; 4096];
        loop {
            while let Some((frame, used)) = frame::decode(&self.bytes)? {
                let done = found(&frame)?;
                self.bytes.drain(..used);
                if done {
                    return Ok(());
                }
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("probe: the session ended".into()),
                Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("probe: {error}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that answers `pongs` PINGs and then closes.
    fn server(pongs: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut bytes, mut chunk, mut answered) = (Vec::new(), [0; 4096], 0);
            while answered <= pongs {
                let count = stream.read(&mut chunk).unwrap();
                bytes.extend_from_slice(&chunk[..count]);
                while let Some((frame, used)) = frame::decode(&bytes).unwrap() {
                    let mut out = Vec::new();
                    let limits = r#"{"heartbeat_interval_ms":1,"heartbeat_timeout_ms":1,"max_message_bytes":1048576,"max_fragment_bytes":16384}"#;
                    match frame.kind {
                        frame::HELLO => {
                            frame::encode(&mut out, frame::WELCOME, frame::JSON, 1, "s", limits.as_bytes())
                        }
                        _ => frame::encode(&mut out, frame::PONG, 0, frame.id, "", frame.body),
                    }
                    stream.write_all(&out).unwrap();
                    answered += 1;
                    bytes.drain(..used);
                }
            }
        });
        address
    }

    fn measured(probe: &Probe, count: u64) -> bool {
        let until = Instant::now() + PATIENCE;
        let mut seen = 0;
        while seen < count && !probe.thread.is_finished() && Instant::now() < until {
            seen += probe.take().count();
            std::thread::yield_now();
        }
        seen >= count
    }

    #[test]
    fn every_ping_is_measured() {
        let probe = Probe::start(server(usize::MAX - 1), "p", Duration::from_millis(1)).unwrap();
        assert!(measured(&probe, 20));
        assert_eq!(probe.end(), Ok(()));
    }

    #[test]
    fn a_session_that_is_lost_is_an_error() {
        let probe = Probe::start(server(5), "p", Duration::from_millis(1)).unwrap();
        assert!(!measured(&probe, 50));
        assert!(probe.end().is_err());
    }
}
