//! Standard error, written without ever blocking and without changing it for those who share it.
//!
//! O_NONBLOCK belongs to the open file description, which the shell or a supervisor may share with us: set there, it
//! would break them. So each kind of stderr is written in its own way.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

/// A pipe that is writable takes this much without blocking: PIPE_BUF, pipe(7).
const PIPE_ROOM: usize = 4096;
/// A terminal that is writable takes at least this much.
const TERMINAL_ROOM: usize = 256;

pub enum Sink {
    /// A regular file, or a pipe or device opened anew with O_NONBLOCK.
    File(File),
    /// The journal is a stream socket: MSG_DONTWAIT with each `send`.
    Socket(File),
    /// Must not be opened anew (a pipe of another user, or no /proc): asked before each write whether there is room.
    Polled { file: File, poll: Poll, events: Events, room: usize },
}

impl Sink {
    /// How to write to `fd`, a duplicate of standard error.
    ///
    /// # Errors
    /// `fd` cannot be asked what it is.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        let kind = file.metadata()?.file_type();
        if kind.is_file() {
            return Ok(Self::File(file));
        }
        if kind.is_socket() {
            return Ok(Self::Socket(file));
        }
        let again = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(format!("/proc/self/fd/{}", file.as_raw_fd()));
        match again {
            Ok(again) => Ok(Self::File(again)),
            Err(_) => Self::polled(file, if kind.is_fifo() { PIPE_ROOM } else { TERMINAL_ROOM }),
        }
    }

    fn polled(file: File, room: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let source = file.as_raw_fd();
        match poll.registry().register(&mut SourceFd(&source), Token(0), Interest::WRITABLE) {
            Ok(()) => Ok(Self::Polled { file, poll, events: Events::with_capacity(1), room }),
            // What epoll refuses (EPERM) never makes a writer wait.
            Err(_) => Ok(Self::File(file)),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Socket(file) => {
                SockRef::from(&*file).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            }
            Self::Polled { file, poll, events, room } => {
                // mio is edge-triggered; to register again asks for the state of now.
                let source = file.as_raw_fd();
                poll.registry().reregister(&mut SourceFd(&source), Token(0), Interest::WRITABLE)?;
                poll.poll(events, Some(Duration::ZERO))?;
                if events.is_empty() {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                file.write(&bytes[..bytes.len().min(*room)])
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Writes until the sink would block.
    fn fill(sink: &mut Sink) -> usize {
        let mut written = 0;
        loop {
            match sink.write(&[b'x'; 10_000]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return written,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Whether the description behind a descriptor is O_NONBLOCK.
    fn is_nonblocking(fd: &impl AsRawFd) -> bool {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        i32::from_str_radix(flags, 8).unwrap() & libc::O_NONBLOCK != 0
    }

    fn duplicate(of: &impl AsFd) -> OwnedFd {
        of.as_fd().try_clone_to_owned().unwrap()
    }

    #[test]
    fn a_pipe_that_nobody_reads_would_block_and_goes_on_when_it_is_read() {
        let (mut reader, writer) = io::pipe().unwrap();
        let file = File::from(duplicate(&writer));
        for mut sink in [Sink::new(duplicate(&writer)).unwrap(), Sink::polled(file, PIPE_ROOM).unwrap()] {
            let written = fill(&mut sink);
            assert!(written > 0);
            reader.read_exact(&mut vec![0; written]).unwrap();
            assert_eq!(sink.write(b"on").unwrap(), 2);
            reader.read_exact(&mut [0; 2]).unwrap();
        }
        assert!(!is_nonblocking(&writer));
    }

    #[test]
    fn a_socket_that_nobody_reads_would_block() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let mut sink = Sink::new(duplicate(&writer)).unwrap();
        assert!(matches!(sink, Sink::Socket(_)));
        let written = fill(&mut sink);
        reader.read_exact(&mut vec![0; written]).unwrap();
        assert!(sink.write(b"on").is_ok());
        assert!(!is_nonblocking(&writer));
    }

    #[test]
    fn a_reader_that_is_gone_is_an_error_and_no_signal() {
        let (reader, writer) = io::pipe().unwrap();
        let mut pipe = Sink::new(duplicate(&writer)).unwrap();
        let mut polled = Sink::polled(File::from(duplicate(&writer)), PIPE_ROOM).unwrap();
        drop(reader);
        assert_eq!(pipe.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(polled.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        let (reader, writer) = UnixStream::pair().unwrap();
        let mut socket = Sink::new(writer.into()).unwrap();
        drop(reader);
        assert_eq!(socket.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn devices_and_files_take_all() {
        let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
        assert_eq!(Sink::new(null.into()).unwrap().write(&[0; 100_000]).unwrap(), 100_000);
        let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
        assert!(matches!(Sink::polled(null, PIPE_ROOM).unwrap(), Sink::File(_)), "epoll refuses /dev/null");
    }
}
