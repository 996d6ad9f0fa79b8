//! Server-sent events, as EventSource reads them (WHATWG HTML, section 9.2): blocks of lines, each ended by an empty one. What
//! their data carries is the JSON of an `event` notification, on one line.

use crate::id::EventId;
use crate::proto::http::SizeLine;
use crate::proto::jsonrpc::{EventParams, GAP, flatten_lines, write_event_params};
use crate::proto::websocket::MAX_UNUSED_BYTES;
use bytes::{Buf, Bytes};
use std::ops::Range;

/// A line that means nothing, so that a connection on which nothing happens is seen to live.
const COMMENT: &[u8] = b":\n";

/// Room for the size line of a chunk of up to 2^32 bytes.
const MAX_SIZE_LINE: usize = 10;
/// Room behind its end that a block keeps at most, in bytes.
const MAX_SPARE_BYTES: usize = 64;
/// Queued frames are counted with what a WebSocket frame may leave unused.
const _: () = assert!(MAX_SIZE_LINE + MAX_SPARE_BYTES <= MAX_UNUSED_BYTES);

/// A block, encoded once as a chunk for any number of answers.
#[derive(Clone, Debug)]
pub struct Block {
    pub chunk: Bytes,
    /// What of it goes into an answer that is not chunked.
    pub plain: Range<usize>,
}

impl Block {
    /// An event; presence has no id, for it cannot be resumed from.
    pub fn event(params: &EventParams<'_>, id: Option<EventId>) -> Self {
        let room = params.notification_len() + params.topic.len() + 64;
        Self::write(room, params.topic, id, |out| write_event_params(out, params))
    }

    /// That events up to `until` may be missing. `id` is where a reader stands who goes on from here.
    pub fn gap(id: EventId, until: EventId) -> Self {
        Self::write(128, GAP, Some(id), |out| {
            out.extend_from_slice(format!("{{\"gap\":true,\"until\":\"{until}\"}}").as_bytes());
        })
    }

    /// A comment: no event.
    pub fn comment() -> Self {
        let mut out = Vec::with_capacity(MAX_SIZE_LINE + 64);
        out.resize(MAX_SIZE_LINE, 0);
        out.extend_from_slice(COMMENT);
        out.push(b'\n');
        Self::finish(out)
    }

    fn write(room: usize, name: &str, id: Option<EventId>, write_data: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut out = Vec::with_capacity(MAX_SIZE_LINE + room);
        out.resize(MAX_SIZE_LINE, 0);
        for part in ["event: ", name, "\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        write_id(&mut out, id);
        out.extend_from_slice(b"data: ");
        let data = out.len();
        write_data(&mut out);
        flatten_lines(&mut out[data..]);
        out.extend_from_slice(b"\n\n");
        Self::finish(out)
    }

    /// Puts the size in front, as close as it comes, and the end of the chunk behind.
    fn finish(mut out: Vec<u8>) -> Self {
        let length = out.len() - MAX_SIZE_LINE;
        let size = SizeLine::new(length);
        let unused = MAX_SIZE_LINE - size.as_bytes().len();
        out[unused..MAX_SIZE_LINE].copy_from_slice(size.as_bytes());
        out.extend_from_slice(b"\r\n");
        if out.capacity() - out.len() > MAX_SPARE_BYTES {
            out.shrink_to_fit();
        }
        let mut chunk = Bytes::from(out);
        chunk.advance(unused);
        let start = MAX_SIZE_LINE - unused;
        Self { chunk, plain: start..start + length }
    }

    pub fn plain(&self) -> &[u8] {
        &self.chunk[self.plain.clone()]
    }
}

fn write_id(out: &mut Vec<u8>, id: Option<EventId>) {
    if let Some(id) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::http::{BodyLength, BodyReader};
    use crate::proto::jsonrpc::{Body, Origin};

    fn check(block: &Block, expected: &str) {
        assert_eq!(std::str::from_utf8(block.plain()).unwrap(), expected);
        let chunks = [&block.chunk[..], b"0\r\n\r\n"].concat();
        let mut body = Vec::new();
        let whole = BodyReader::new(BodyLength::Chunked).read(&mut &chunks[..], &mut body, 1 << 20).unwrap();
        assert!(whole && body == block.plain());
    }

    #[test]
    fn an_event_is_one_block_whatever_lines_its_json_has() {
        let body = Body::Json(b"{\r\n\"on\":\ntrue}");
        let params = EventParams { router: "hub-1", topic: "a/b", seq: Some(7), body, origin: Origin::Live };
        let id = EventId { run: 0xab, number: 42 };
        check(
            &Block::event(&params, Some(id)),
            "event: a/b\nid: 00000000000000ab-42\n\
             data: {\"router\":\"hub-1\",\"topic\":\"a/b\",\"seq\":7,\"body\":{  \"on\": true}}\n\n",
        );
        let params = EventParams { seq: None, body: Body::Json(b"1"), ..params };
        let without = "event: a/b\ndata: {\"router\":\"hub-1\",\"topic\":\"a/b\",\"body\":1}\n\n";
        check(&Block::event(&params, None), without);
        for length in [0, 1, 200, 4_000, 70_000] {
            let params = EventParams { body: Body::Base64(&vec![0; length]), ..params };
            let block = Block::event(&params, Some(id));
            check(&block, std::str::from_utf8(block.plain()).unwrap());
        }
    }

    #[test]
    fn a_gap_says_where_it_ends_and_where_to_go_on() {
        let id = |number| EventId { run: 1, number };
        check(
            &Block::gap(id(3), id(9)),
            "event: berth.gap\nid: 0000000000000001-3\n\
             data: {\"gap\":true,\"until\":\"0000000000000001-9\"}\n\n",
        );
        check(&Block::comment(), ":\n\n");
    }
}
