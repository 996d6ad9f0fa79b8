//! The router link's frames, SPEC section 1: a header of 12 bytes, the name, the body; all integers big-endian.

mod decode;
mod encode;

pub use decode::{Fault, Frame, decode, decode_any};
pub use encode::{header, system_frame};

/// Length of a header, in bytes.
pub const HEADER_BYTES: usize = 12;

/// Bits of the flags byte.
pub mod flags {
    pub const MORE: u8 = 0x01;
    pub const ERROR: u8 = 0x02;
    pub const JSON: u8 = 0x04;
    pub const RETAIN: u8 = 0x08;
}

/// The kinds of the table. `Open`, `Ack`, `Cancel` go from server to router only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Hello = 0x01,
    Welcome = 0x02,
    Ping = 0x03,
    Pong = 0x04,
    Bye = 0x05,
    Command = 0x10,
    Reply = 0x11,
    Event = 0x12,
    Open = 0x20,
    Item = 0x21,
    Ack = 0x22,
    End = 0x23,
    Cancel = 0x24,
}

/// How many frames a message of `bytes` takes: an empty one takes one.
pub fn fragments(bytes: usize) -> usize {
    bytes.div_ceil(crate::limits::MAX_FRAGMENT_BYTES).max(1)
}
