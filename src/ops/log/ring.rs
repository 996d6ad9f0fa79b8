//! The bounded ring of formatted lines, between those who log and a stderr that may not be read.

use std::collections::VecDeque;
use std::fmt;
use std::io::{ErrorKind, Write};

/// What one `write` is handed at most, in bytes.
const CHUNK: usize = 65_536;

/// Lines as bytes, never more than the capacity. What does not fit is dropped by whole lines and counted.
pub struct Ring {
    bytes: VecDeque<u8>,
    capacity: usize,
    dropped: u64,
    /// Those of `dropped` that no line in the ring has told yet.
    untold: u64,
    /// The sink has failed since the last line came: a notice of that would only be lost like the lines were.
    failed: bool,
    /// The reader has the beginning of a line whose rest is still here.
    torn: bool,
}

impl Ring {
    pub fn new(capacity: usize) -> Self {
        let mut bytes = VecDeque::new();
        // Touched once, so that the resident size does not grow with the first burst of lines.
        bytes.resize(capacity, 0);
        bytes.clear();
        Self { bytes, capacity, dropped: 0, untold: 0, failed: false, torn: false }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Lines dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes the line that `write` writes, without its line end, or drops all of it.
    pub fn push(&mut self, write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result) {
        self.failed = false;
        if !self.take(write) {
            self.dropped += 1;
            self.untold += 1;
        }
    }

    fn take(&mut self, write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result) -> bool {
        let before = self.bytes.len();
        let mut line = Bounded { bytes: &mut self.bytes, capacity: self.capacity };
        let taken = write(&mut line).and_then(|()| fmt::Write::write_char(&mut line, '\n')).is_ok();
        if !taken {
            self.bytes.truncate(before);
        }
        taken
    }

    /// Tells how many lines were dropped, once the ring is half empty again: not sooner, so that a full ring does not
    /// fill with notices.
    pub fn tell_dropped(&mut self, write: impl FnOnce(&mut dyn fmt::Write, u64) -> fmt::Result) {
        let untold = self.untold;
        let room = !self.failed && self.len() <= self.capacity / 2;
        if untold > 0 && room && self.take(|line| write(line, untold)) {
            self.untold = 0;
        }
    }

    /// Writes until the ring is empty or `sink` would block. A sink that fails loses all lines that wait, because the
    /// log must not end the daemon; they are counted.
    pub fn write_to(&mut self, sink: &mut impl Write) {
        while !self.is_empty() {
            let (front, _) = self.bytes.as_slices();
            match sink.write(&front[..front.len().min(CHUNK)]) {
                Ok(0) => self.lose(),
                Ok(written) => {
                    self.torn = front[written - 1] != b'\n';
                    self.bytes.drain(..written);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.lose(),
            }
        }
    }

    fn lose(&mut self) {
        let lines = self.bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.dropped += lines;
        self.untold += lines;
        self.bytes.clear();
        self.failed = true;
    }

    /// After a sink that failed has torn a line: ends it, so that the next one begins at a line of its own.
    pub fn mend(&mut self) {
        if self.torn && self.is_empty() {
            self.bytes.push_back(b'\n');
            self.torn = false;
        }
    }
}

/// Writes into the ring, and fails instead of growing it.
struct Bounded<'a> {
    bytes: &'a mut VecDeque<u8>,
    capacity: usize,
}

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.bytes.len() + text.len() > self.capacity {
            return Err(fmt::Error);
        }
        self.bytes.extend(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Takes `room` bytes, at most `most` a call, then would block or fails.
    struct Throttled {
        got: Vec<u8>,
        room: usize,
        most: usize,
        then: ErrorKind,
    }

    impl Write for Throttled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(self.then.into());
            }
            let taken = bytes.len().min(self.most).min(self.room);
            self.got.extend(&bytes[..taken]);
            self.room -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn sink(room: usize, then: ErrorKind) -> Throttled {
        Throttled { got: Vec::new(), room, most: 3, then }
    }

    fn push(ring: &mut Ring, line: &str) {
        ring.push(|out| out.write_str(line));
    }

    fn tell(ring: &mut Ring) {
        ring.tell_dropped(|out, count| write!(out, "-{count}"));
    }

    #[test]
    fn bytes_come_out_in_order_whatever_the_sink_takes() {
        let mut ring = Ring::new(16);
        let mut out = sink(0, ErrorKind::WouldBlock);
        let mut all = String::new();
        for round in 0..40 {
            push(&mut ring, &format!("line{round}"));
            all += &format!("line{round}\n");
            out.room += 7;
            ring.write_to(&mut out);
        }
        out.room = 99;
        ring.write_to(&mut out);
        assert_eq!((String::from_utf8(out.got).unwrap(), ring.dropped()), (all, 0));
    }

    #[test]
    fn a_full_ring_drops_whole_lines_and_tells_it_when_there_is_room() {
        let mut ring = Ring::new(10);
        for line in ["abcd", "efgh", "i", ""] {
            push(&mut ring, line);
        }
        assert_eq!((ring.len(), ring.dropped()), (10, 2));
        tell(&mut ring);
        assert_eq!(ring.len(), 10, "no notice into a full ring");
        let mut out = sink(6, ErrorKind::WouldBlock);
        ring.write_to(&mut out);
        tell(&mut ring);
        tell(&mut ring);
        out.room = 99;
        ring.write_to(&mut out);
        assert_eq!((out.got.as_slice(), ring.dropped()), (&b"abcd\nefgh\n-2\n"[..], 2));
    }

    #[test]
    fn a_line_longer_than_the_ring_is_dropped() {
        let mut ring = Ring::new(10);
        push(&mut ring, "0123456789");
        assert_eq!((ring.len(), ring.dropped()), (0, 1));
    }

    #[test]
    fn a_sink_that_fails_loses_what_waits_and_the_next_line_stands_alone() {
        let mut ring = Ring::new(100);
        for line in ["one", "two", "three"] {
            push(&mut ring, line);
        }
        let mut out = sink(6, ErrorKind::BrokenPipe);
        ring.write_to(&mut out);
        assert_eq!((ring.is_empty(), ring.dropped()), (true, 2));
        tell(&mut ring);
        assert!(ring.is_empty(), "no notice to a sink that fails");
        ring.mend();
        push(&mut ring, "four");
        tell(&mut ring);
        out.room = 99;
        ring.write_to(&mut out);
        assert_eq!(out.got, b"one\ntw\nfour\n-2\n");
    }
}
