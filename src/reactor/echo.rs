//! Test only: every message goes back as it came, so that the Autobahn suite can judge the handshake, the codec and the
//! queue that the daemon uses.

use super::engine::Engine;
use crate::core::frames::Payload;
use crate::id::Token;
use crate::net::transport::Transport;
use crate::proto::websocket::{Message, write_binary, write_text};

impl<T: Transport> Engine<T> {
    /// Sends data messages back; control frames are left to the caller.
    pub(super) fn echo<'i>(&mut self, token: Token, message: Message<'i>) -> Option<Message<'i>> {
        let mut frame = Vec::new();
        match message {
            Message::Text(text) => write_text(&mut frame, text.as_bytes()),
            Message::Binary(bytes) => write_binary(&mut frame, &bytes),
            control => return Some(control),
        }
        self.send_user(token, Payload::Owned(frame));
        None
    }
}
