//! WebSocket, the server's side of RFC 6455: bytes in, messages out, and frames for what is sent back.
//!
//! No extension is ever negotiated, so every RSV bit is a fault. The request headers of the handshake are
//! checked in the HTTP code; here is only what is made from them.

mod decoder;
mod encoder;
mod handshake;
mod mask;
#[cfg(test)]
mod tests;
mod utf8;

pub use decoder::{Decoder, Fault, Limits, Message};
pub use encoder::{
    MAX_CONTROL_BYTES, MAX_UNUSED_BYTES, TextFrame, ping, text_header, write_binary, write_close, write_pong,
    write_text,
};
pub use handshake::{accept_key, write_upgrade};
