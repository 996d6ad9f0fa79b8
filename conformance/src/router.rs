//! A blocking client of the router link: raw bytes out, one frame at a time in.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::frame::{Assembler, Command, Frame, flag, kind};
use crate::http::{PATIENCE, is_timeout};

/// One connection to the router listener, as a router or as something that misbehaves.
#[derive(Debug)]
pub struct Router {
    stream: TcpStream,
    buffered: Vec<u8>,
    assembler: Assembler,
}

/// What is special about a connection before it is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dial {
    /// The source address; the kernel's choice without it.
    pub from: Option<SocketAddr>,
    /// SO_RCVBUF in bytes: a small one makes a router that takes little while it does not read.
    pub receive_buffer: Option<usize>,
}

impl Dial {
    pub fn stream(self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(from) = self.from {
            socket.bind(&from.into())?;
        }
        socket.connect_timeout(&address.into(), PATIENCE)?;
        Ok(socket.into())
    }

    pub fn connect(self, address: SocketAddr) -> Router {
        Router::over(self.stream(address).expect("connect"))
    }

    /// Connects, says HELLO and takes the WELCOME.
    #[track_caller]
    pub fn bind(self, address: SocketAddr, id: &str) -> Router {
        let mut router = self.connect(address);
        router.hello(id);
        router
    }
}

impl Router {
    /// A connection that has not said anything yet.
    pub fn connect(address: SocketAddr) -> Self {
        Dial::default().connect(address)
    }

    /// A bound router.
    #[track_caller]
    pub fn bind(address: SocketAddr, id: &str) -> Self {
        Dial::default().bind(address, id)
    }

    /// A bound router whose kernel takes little while it does not read.
    #[track_caller]
    pub fn bind_small(address: SocketAddr, id: &str) -> Self {
        Dial { receive_buffer: Some(4096), ..Dial::default() }.bind(address, id)
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("read timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("write timeout");
        Self { stream, buffered: Vec::new(), assembler: Assembler::default() }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Says HELLO and returns the WELCOME.
    #[track_caller]
    pub fn hello(&mut self, id: &str) -> Frame {
        self.send(&Frame::hello(id));
        let welcome = self.recv();
        assert_eq!(welcome.kind, kind::WELCOME, "{welcome:?}");
        welcome
    }

    // --- Out -------------------------------------------------------------------------------------------------------

    /// A daemon that has closed meanwhile is no error here: it shows when reading.
    pub fn send(&mut self, frame: &Frame) {
        self.send_bytes(&frame.encode());
    }

    /// Sends a message, in parts when it is longer than a fragment.
    pub fn send_message(&mut self, message: &Frame) {
        self.send_bytes(&message.encode_parts());
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.try_send_bytes(bytes);
    }

    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// FIN: nothing more will be sent.
    pub fn finish_sending(&self) {
        // A daemon that has reset the connection meanwhile leaves nothing to finish.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// RST instead of FIN.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    // --- In --------------------------------------------------------------------------------------------------------

    pub fn set_patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("read timeout");
    }

    /// The next frame, or `UnexpectedEof` when the server closed, or a timeout when it is silent.
    pub fn try_recv(&mut self) -> io::Result<Frame> {
        loop {
            if let Some((frame, length)) = Frame::decode(&self.buffered) {
                self.buffered.drain(..length);
                return Ok(frame);
            }
            let mut chunk = [0; 16_384];
            match self.stream.read(&mut chunk) {
                Ok(0) if self.buffered.is_empty() => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(0) => return Err(io::Error::new(ErrorKind::InvalidData, "FIN within a frame")),
                Ok(n) => self.buffered.extend_from_slice(&chunk[..n]),
                // A read with a timeout is not restarted when the machine was frozen for a moment (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    #[track_caller]
    pub fn recv(&mut self) -> Frame {
        self.try_recv().unwrap_or_else(|error| panic!("no frame: {error}"))
    }

    /// The next frame, which must be of this kind.
    #[track_caller]
    pub fn expect(&mut self, kind: u8) -> Frame {
        let frame = self.recv();
        assert_eq!(frame.kind, kind, "{frame:?}");
        frame
    }

    /// The next command, put together; PINGs in between are answered.
    #[track_caller]
    pub fn recv_command(&mut self) -> Frame {
        match self.try_command().unwrap_or_else(|error| panic!("no command: {error}")) {
            Command::Whole(command) => command,
            Command::Aborted(id) => panic!("command {id} was aborted"),
        }
    }

    /// The next command or abort; PINGs in between are answered, and a BYE is an error with its code.
    pub fn try_command(&mut self) -> io::Result<Command> {
        loop {
            let frame = self.try_recv()?;
            match frame.kind {
                kind::COMMAND => {
                    if let Some(command) = self.assembler.push(frame) {
                        return Ok(command);
                    }
                }
                kind::PING => self.send(&Frame { kind: kind::PONG, ..frame }),
                kind::PONG => {}
                kind::BYE => return Err(io::Error::other(format!("BYE {}", frame.name_text()))),
                _ => return Err(io::Error::other(format!("{frame:?}"))),
            }
        }
    }

    /// PING there and PONG back: everything sent before has been taken, and the session lives. The server's own PINGs in
    /// between are answered.
    #[track_caller]
    pub fn ping(&mut self) {
        self.send(&Frame::ping("?"));
        let mut answer = self.recv();
        while answer.kind == kind::PING {
            self.send(&Frame { kind: kind::PONG, ..answer });
            answer = self.recv();
        }
        assert_eq!(answer, Frame::new(kind::PONG).body("?"));
    }

    /// Asserts that the next frame is this BYE, exactly as the table wants it; the server may PING at any time.
    #[track_caller]
    pub fn expect_bye(&mut self, code: &str) {
        let mut bye = self.recv();
        while bye.kind == kind::PING {
            bye = self.recv();
        }
        assert_eq!((bye.kind, bye.name_text()), (kind::BYE, code), "{bye:?}");
        assert_eq!((bye.flags, bye.id), (0, 0), "{bye:?}");
        assert!(bye.body.len() <= 256 && std::str::from_utf8(&bye.body).is_ok(), "{bye:?}");
    }

    /// Asserts that this BYE comes next, and a clean FIN behind it.
    #[track_caller]
    pub fn expect_end(&mut self, code: &str) {
        self.expect_bye(code);
        self.expect_fin();
    }

    /// Asserts that the server has shut down writing, with nothing more said before.
    #[track_caller]
    pub fn expect_fin(&mut self) {
        match self.try_recv() {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            other => panic!("no FIN but {other:?}"),
        }
    }

    /// Asserts that nothing comes for `time`, and that the connection stays open.
    #[track_caller]
    pub fn expect_silence(&mut self, time: Duration) {
        self.set_patience(time);
        let error = self.try_recv().expect_err("silence");
        self.set_patience(PATIENCE);
        assert!(is_timeout(&error) && self.buffered.is_empty(), "{error}, {:?}", self.buffered);
    }

    /// All frames until the server has shut down writing or reset; a frame that was cut short is left out.
    pub fn recv_to_end(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.try_recv() {
                Ok(frame) => frames.push(frame),
                Err(error) => {
                    assert!(!is_timeout(&error), "the server did not close, behind {} frames", frames.len());
                    return frames;
                }
            }
        }
    }

    /// Waits until the connection is gone altogether: what is sent to it is refused.
    #[track_caller]
    pub fn expect_closed(&mut self, bound: Duration) {
        let deadline = Instant::now() + bound;
        while self.try_send_bytes(b"?").is_ok() {
            assert!(Instant::now() < deadline, "still takes bytes after {bound:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Answers every command with its own body, in parts and with its JSON flag, until the connection ends.
    pub fn echo(mut self) -> Echo {
        let stream = self.stream.try_clone().expect("a second handle");
        // It may idle for long while its test does other things.
        stream.set_read_timeout(None).expect("read timeout");
        let thread = std::thread::spawn(move || {
            let mut answered = 0;
            loop {
                match self.try_command() {
                    Ok(Command::Whole(command)) if command.id != 0 => {
                        let flags = command.flags & flag::JSON;
                        self.send_message(&Frame::reply(command.id, command.body).flags(flags));
                        answered += 1;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        // Leaves at once; fails when the server has closed already.
                        let _ = self.stream.shutdown(Shutdown::Both);
                        return (answered, error.to_string());
                    }
                }
            }
        });
        Echo { stream, thread: Some(thread) }
    }
}

/// A router that runs by itself in a thread; dropping it ends its connection.
pub struct Echo {
    stream: TcpStream,
    thread: Option<JoinHandle<(usize, String)>>,
}

impl Echo {
    /// Waits until the server has ended the session: how many commands were answered, and why it ended (`BYE code`).
    pub fn join(mut self) -> (usize, String) {
        self.thread.take().expect("joined once").join().expect("the echo router")
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // Fails when the server has closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
