//! The log: a bounded ring, flushed to stderr by the loop without ever blocking (SPEC section 7).
//!
//! Log with fields rather than with sentences: `log::warn!(router = id, queued_bytes = n; "slow consumer")`. A field of
//! a type that only has `Display` is written `address:% = address`. Credentials never go into a field.

mod line;
mod ring;
mod sink;

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use crate::limits::{LogFormat, LogSettings};
use crate::memory::{Holder, charge};
use ring::Ring;
use sink::Sink;

/// What may wait for a slow reader of stderr, in bytes.
pub const RING_BYTES: usize = 1 << 20;

struct State {
    ring: Ring,
    sink: Sink,
    format: LogFormat,
}

impl State {
    fn new(sink: Sink, format: LogFormat) -> Self {
        let _charge = charge(Holder::Log);
        Self { ring: Ring::new(RING_BYTES), sink, format }
    }

    fn record(&mut self, now: SystemTime, record: &log::Record<'_>) {
        let format = self.format;
        self.ring.push(|out| line::write(out, format, now, record));
    }

    /// Writes what it can; true when nothing is left.
    fn flush(&mut self) -> bool {
        self.ring.mend();
        self.ring.write_to(&mut self.sink);
        let format = self.format;
        self.ring.tell_dropped(|out, count| {
            let fields = [("count", count)];
            let notice = log::Record::builder()
                .level(log::Level::Warn)
                .target(module_path!())
                .args(format_args!("log lines dropped"))
                .key_values(&fields)
                .build();
            line::write(out, format, SystemTime::now(), &notice)
        });
        self.ring.write_to(&mut self.sink);
        self.ring.is_empty()
    }
}

/// One thread logs, so the lock is free except when a value logs while it is being formatted.
struct Logger {
    state: Mutex<Option<State>>,
    /// Lines of such values, dropped because to wait for oneself would never end.
    nested: AtomicU64,
}

static LOGGER: Logger = Logger { state: Mutex::new(None), nested: AtomicU64::new(0) };

impl Logger {
    fn try_state(&self) -> Option<MutexGuard<'_, Option<State>>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn with<T>(&self, ask: impl FnOnce(&mut State) -> T) -> Option<T> {
        self.try_state()?.as_mut().map(ask)
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        match self.try_state() {
            Some(mut state) => {
                if let Some(state) = state.as_mut() {
                    state.record(SystemTime::now(), record);
                }
            }
            None => drop(self.nested.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn flush(&self) {
        flush();
    }
}

/// Whether [`flush`] wrote all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flushed {
    pub done: bool,
}

/// Allocates the ring and becomes the logger of the process. Called again, it only takes the new level and format.
///
/// # Errors
/// Standard error cannot be used at all.
pub fn install(settings: &LogSettings) -> io::Result<()> {
    let mut state = LOGGER.state.lock().unwrap_or_else(PoisonError::into_inner);
    match state.as_mut() {
        Some(state) => state.format = settings.format,
        None => {
            let sink = Sink::new(io::stderr().as_fd().try_clone_to_owned()?)?;
            *state = Some(State::new(sink, settings.format));
        }
    }
    drop(state);
    log::set_max_level(settings.level);
    // Fails only when it is set already.
    let _ = log::set_logger(&LOGGER);
    Ok(())
}

/// Lets a panic pass through the ring, behind the lines before it, and gives them a second to reach stderr: with
/// `panic = "abort"` the last lines would be lost, and they are the ones that tell why.
pub fn log_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // Not free when the panic comes from a value that is being formatted.
        if LOGGER.try_state().is_some_and(|state| state.is_some()) {
            let at = panic.location();
            let file = at.map_or("?", |at| at.file());
            let line = at.map_or(0, |at| at.line());
            let message = panic.payload_as_str().unwrap_or("panic");
            log::error!(panic = true, file = file, line = line; "{message}");
            flush_blocking(Duration::from_secs(1));
        } else {
            default(panic);
        }
    }));
}

/// Writes what stderr takes now, without waiting for its reader. When it is not `done`, call again a little later.
pub fn flush() -> Flushed {
    Flushed { done: LOGGER.with(State::flush).unwrap_or(true) }
}

/// At exit: flushes until all is written or `bound` is over.
pub fn flush_blocking(bound: Duration) -> Flushed {
    let begun = Instant::now();
    loop {
        let flushed = flush();
        if flushed.done || begun.elapsed() >= bound {
            return flushed;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Lines dropped since the start.
pub fn dropped() -> u64 {
    LOGGER.with(|state| state.ring.dropped()).unwrap_or(0) + LOGGER.nested.load(Ordering::Relaxed)
}

/// Bytes that wait for the reader of stderr.
pub fn used_bytes() -> usize {
    LOGGER.with(|state| state.ring.len()).unwrap_or(0)
}

/// The heap that the ring holds, from start to end, in bytes.
pub fn heap_bytes() -> usize {
    LOGGER.with(|state| state.ring.capacity()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};

    use super::*;

    fn state(format: LogFormat) -> (State, PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (State::new(Sink::new(writer.into()).unwrap(), format), reader)
    }

    fn record(state: &mut State, n: usize) {
        let now = SystemTime::UNIX_EPOCH;
        let builder = || log::Record::builder();
        state.record(now, &builder().target("t").args(format_args!("{n:0>100}")).build());
    }

    #[test]
    fn a_reader_that_sleeps_gets_whole_lines_in_order_and_the_number_of_those_dropped() {
        let (mut state, mut reader) = state(LogFormat::Logfmt);
        for n in 0..20_000 {
            record(&mut state, n);
            if n % 1000 == 0 {
                assert_eq!(state.flush(), n == 0, "nobody reads after the pipe is full");
            }
            assert!(state.ring.len() <= RING_BYTES);
        }
        let lost = state.ring.dropped();
        assert!(lost > 0);
        let mut text = Vec::new();
        let mut done = false;
        while !done {
            done = state.flush();
            let mut chunk = [0; 16_384];
            let count = reader.read(&mut chunk).unwrap();
            text.extend_from_slice(&chunk[..count]);
        }
        drop(state);
        reader.read_to_end(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let messages: Vec<&str> = text.lines().map(|line| line.split_once("msg=").unwrap().1).collect();
        let (last, lines) = messages.split_last().unwrap();
        assert_eq!(*last, format!("\"log lines dropped\" count={lost}"));
        assert_eq!(lines.len() as u64 + lost, 20_000);
        for (n, message) in lines.iter().enumerate() {
            assert_eq!(*message, format!("\"{n:0>100}\""));
        }
    }

    #[test]
    fn a_reader_that_is_gone_stops_nothing() {
        let (mut state, reader) = state(LogFormat::Json);
        drop(reader);
        for n in 0..3 {
            record(&mut state, n);
            state.flush();
        }
        assert!(state.ring.dropped() >= 3);
        assert!(state.ring.len() < 200, "at most the notice of the drop waits");
    }
}
