//! What the reactor needs of a connection's socket. `berthd` runs it on TCP, the simulator on memory.

use std::io::{self, IoSlice};

pub trait Transport {
    /// Reads without blocking: 0 at end of stream, `WouldBlock` when there is nothing.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes what the kernel takes, without blocking.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sends FIN; reading goes on.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Takes the error that the socket holds, if any.
    fn take_error(&mut self) -> Option<io::Error>;

    /// What the kernel knows of the connection.
    fn info(&self) -> Option<Info>;

    /// Deregisters and closes. The only way a transport ends.
    fn close(self);
}

/// The part of TCP_INFO that is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Smoothed round trip, in microseconds.
    pub rtt_us: u32,
    pub retransmits: u32,
    /// Bytes that the peer has acknowledged since the connection began.
    pub acked_bytes: u64,
    /// Milliseconds since the last acknowledgement came.
    pub last_ack_ms: u32,
    /// Retransmissions and window probes in a row that nothing has answered.
    pub unanswered: u8,
}
