//! Signals as readiness of the loop: each handler writes a byte into a socket that the loop polls.

use std::io::{self, ErrorKind, Read};

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: drain, and at the second one exit.
    Terminate,
    /// SIGHUP: read the configuration again.
    Hangup,
}

/// One socket a kind, because a byte does not tell which signal wrote it.
pub struct Signals {
    terminate: UnixStream,
    hangup: UnixStream,
    handlers: Vec<SigId>,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP, and makes `token` readable when one arrives.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let mut handlers = Vec::with_capacity(3);
        let mut receiver = |signals: &[i32]| {
            let (sender, receiver) = std::os::unix::net::UnixStream::pair()?;
            for signal in signals {
                handlers.push(pipe::register(*signal, sender.try_clone()?)?);
            }
            receiver.set_nonblocking(true)?;
            let mut receiver = UnixStream::from_std(receiver);
            registry.register(&mut receiver, token, Interest::READABLE)?;
            io::Result::Ok(receiver)
        };
        let (terminate, hangup) = (receiver(&[SIGTERM, SIGINT])?, receiver(&[SIGHUP])?);
        Ok(Self { terminate, hangup, handlers })
    }

    /// Calls `took` once for each signal since the last drain. The kernel may have merged equal ones that came before
    /// their handler ran.
    pub fn drain(&mut self, mut took: impl FnMut(Signal)) {
        for (stream, signal) in [(&mut self.terminate, Signal::Terminate), (&mut self.hangup, Signal::Hangup)]
        {
            let mut bytes = [0; 16];
            loop {
                match stream.read(&mut bytes) {
                    Ok(0) => break,
                    Ok(count) => (0..count).for_each(|_| took(signal)),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            unregister(handler);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use mio::{Events, Poll};
    use signal_hook::low_level::raise;

    use super::*;

    /// One test, because signals belong to the process and tests run beside each other.
    #[test]
    fn each_signal_is_told_apart_and_counted() {
        let mut poll = Poll::new().unwrap();
        let mut signals = Signals::new(poll.registry(), Token(7)).unwrap();
        let mut next = |count: usize| {
            let mut took = Vec::new();
            let begun = Instant::now();
            while took.len() < count && begun.elapsed() < Duration::from_secs(10) {
                let mut events = Events::with_capacity(4);
                let _ = poll.poll(&mut events, Some(Duration::from_millis(100)));
                assert!(events.iter().all(|event| event.token() == Token(7)));
                signals.drain(|signal| took.push(signal));
            }
            took
        };
        raise(SIGTERM).unwrap();
        assert_eq!(next(1), [Signal::Terminate]);
        raise(SIGHUP).unwrap();
        assert_eq!(next(1), [Signal::Hangup]);
        raise(SIGINT).unwrap();
        raise(SIGTERM).unwrap();
        assert_eq!(next(2), [Signal::Terminate, Signal::Terminate]);
    }
}
