//! What the server writes to a consumer, judged as its socket takes it: heads, problems, and rows one by one.

use super::rows::Rows;
use crate::socket::LinkRef;
use crate::wire::{Answer, take_answer};
use std::collections::VecDeque;

/// What a consumer has asked, in order.
pub enum Expected {
    /// The number of a stream.
    Stream(u64),
    Statuses(&'static [u16]),
}

/// What an answer has brought.
pub enum Brought {
    /// The head of a stream's answer; to HEAD that is all.
    Head(u64),
    Row(u64),
    /// The last chunk.
    Whole(u64),
    /// In place of a stream.
    Problem(u64, Answer),
    Other,
    /// The connection's own last answer: nothing that was asked is carried out any more.
    LastWord,
}

/// A body of rows that has begun.
struct Body {
    stream: u64,
    rows: Rows,
    next: u64,
    is_chunked: bool,
}

pub struct Responses {
    pub link: LinkRef,
    pub is_head: bool,
    /// Requests are HTTP/1.0: no chunks, and no next one.
    pub is_old: bool,
    pub expected: VecDeque<Expected>,
    input: Vec<u8>,
    body: Option<Body>,
}

impl Responses {
    pub fn new(link: LinkRef, is_head: bool, is_old: bool) -> Self {
        Self { link, is_head, is_old, expected: VecDeque::new(), input: Vec::new(), body: None }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The stream whose answer has begun and not ended, and whether its end would have shown.
    pub fn under_way(&self) -> Option<(u64, bool)> {
        self.body.as_ref().map(|body| (body.stream, body.is_chunked))
    }

    /// The stream whose answer is due next.
    pub fn awaits(&self) -> Option<u64> {
        match self.expected.front() {
            Some(Expected::Stream(number)) => Some(*number),
            _ => None,
        }
    }

    /// What the bytes that are cut off were to be: the beginning of the next row, if anything.
    pub fn check_rest(&self) -> Result<(), String> {
        let Some(body) = &self.body else { return Ok(()) };
        let piece = body.piece();
        if self.input.is_empty() || piece.starts_with(&self.input) || b"0\r\n\r\n".starts_with(&self.input) {
            return Ok(());
        }
        Err(format!("behind row {} of stream {} there are other bytes", body.next, body.stream))
    }

    /// The next thing that is whole. `stream` tells rows and first row of one.
    pub fn next(&mut self, stream: impl FnOnce(u64) -> (Rows, u64)) -> Result<Option<Brought>, String> {
        if self.input.is_empty() {
            return Ok(None);
        }
        match &mut self.body {
            Some(_) => self.next_row(),
            None => self.next_answer(stream),
        }
    }

    fn next_row(&mut self) -> Result<Option<Brought>, String> {
        let Some(body) = &mut self.body else { return Ok(None) };
        let stream = body.stream;
        if body.is_chunked && self.input.starts_with(b"0") {
            if self.input.len() < 5 {
                return Ok(None);
            }
            if !self.input.starts_with(b"0\r\n\r\n") {
                return Err(format!("the last chunk of stream {stream} is not right"));
            }
            self.input.drain(..5);
            self.body = None;
            return Ok(Some(Brought::Whole(stream)));
        }
        if body.next >= body.rows.total {
            return Err(format!("stream {stream} has more than its {} rows", body.rows.total));
        }
        let piece = body.piece();
        if self.input.len() < piece.len() {
            return Ok(None);
        }
        if !self.input.starts_with(&piece) {
            return Err(format!("row {} of stream {stream} is not as it was sent", body.next));
        }
        self.input.drain(..piece.len());
        body.next += 1;
        Ok(Some(Brought::Row(stream)))
    }

    fn next_answer(&mut self, stream: impl FnOnce(u64) -> (Rows, u64)) -> Result<Option<Brought>, String> {
        let head = String::from_utf8_lossy(&self.input[..self.input.len().min(400)]).into_owned();
        let is_of_rows = self.awaits().is_some() && head.starts_with("HTTP/1.1 200 ");
        let Some(answer) = take_answer(&mut self.input, self.is_head || is_of_rows)? else { return Ok(None) };
        let code: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let is_last_word = matches!(code["code"].as_str(), Some("limit_exceeded" | "request_timeout"));
        // Such an answer is the connection's: it has a body even where the request was a HEAD.
        let may_be_last = answer.closes && matches!(answer.status, 408 | 429);
        if may_be_last && (is_last_word || self.is_head || self.expected.is_empty()) {
            self.expected.clear();
            self.input.clear();
            return Ok(Some(Brought::LastWord));
        }
        match self.expected.pop_front() {
            None => Err(format!("an answer {} to nothing", answer.status)),
            Some(Expected::Statuses(statuses)) if statuses.contains(&answer.status) => {
                Ok(Some(Brought::Other))
            }
            Some(Expected::Statuses(statuses)) => Err(format!("{} is none of {statuses:?}", answer.status)),
            Some(Expected::Stream(number)) if answer.status != 200 => {
                Ok(Some(Brought::Problem(number, answer)))
            }
            Some(Expected::Stream(number)) => {
                let (rows, from) = stream(number);
                let is_json = rows.json || from >= rows.total;
                let right = if is_json { "application/x-ndjson" } else { "application/octet-stream" };
                let is_chunked = head.contains("\r\nTransfer-Encoding: chunked\r\n");
                if answer.content_type != right || is_chunked == self.is_old || self.is_old && !answer.closes
                {
                    return Err(format!("the head of stream {number} is {head}"));
                }
                if !self.is_head {
                    self.body = Some(Body { stream: number, rows, next: from, is_chunked });
                }
                Ok(Some(Brought::Head(number)))
            }
        }
    }
}

impl Body {
    /// The next row as it is written: a chunk of its own, or bare.
    fn piece(&self) -> Vec<u8> {
        let row = self.rows.in_body(self.next);
        if !self.is_chunked {
            return row;
        }
        [format!("{:x}\r\n", row.len()).as_bytes(), &row, b"\r\n"].concat()
    }
}
