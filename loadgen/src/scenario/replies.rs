//! Long replies of a router, which go out piece by piece.

use std::collections::VecDeque;

use crate::frame;

struct Reply {
    id: u32,
    flags: u8,
    body: Vec<u8>,
    sent: usize,
}

/// The replies that have not gone out whole.
#[derive(Default)]
pub struct Replies(VecDeque<Reply>);

/// Fragments that are handed to the kernel at a time: a PING of ours waits behind so many.
const FRAGMENTS_AHEAD: usize = 2;

impl Replies {
    /// Sends a short reply at once; a long one waits for its turn.
    pub fn send(&mut self, out: &mut Vec<u8>, id: u32, flags: u8, body: Vec<u8>) {
        if body.len() <= frame::MAX_FRAGMENT_BYTES {
            frame::encode(out, frame::REPLY, flags, id, "", &body);
        } else {
            self.0.push_back(Reply { id, flags, body, sent: 0 });
        }
    }

    /// Appends the next fragments.
    pub fn advance(&mut self, out: &mut Vec<u8>) {
        for _ in 0..FRAGMENTS_AHEAD {
            let Some(reply) = self.0.front_mut() else { return };
            let end = (reply.sent + frame::MAX_FRAGMENT_BYTES).min(reply.body.len());
            let more = if end < reply.body.len() { frame::MORE } else { 0 };
            let part = &reply.body[reply.sent..end];
            frame::encode(out, frame::REPLY, reply.flags | more, reply.id, "", part);
            reply.sent = end;
            // One after another: half-received ones count together against the limit of 1 MiB.
            if more == 0 {
                self.0.pop_front();
            }
        }
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}
