//! The three protocols as their peers speak them, written from the contract and the RFCs and not from the code under test.

pub mod kind {
    pub const HELLO: u8 = 0x01;
    pub const WELCOME: u8 = 0x02;
    pub const PING: u8 = 0x03;
    pub const PONG: u8 = 0x04;
    pub const BYE: u8 = 0x05;
    pub const COMMAND: u8 = 0x10;
    pub const REPLY: u8 = 0x11;
    pub const EVENT: u8 = 0x12;
    pub const OPEN: u8 = 0x20;
    pub const ITEM: u8 = 0x21;
    pub const ACK: u8 = 0x22;
    pub const END: u8 = 0x23;
    pub const CANCEL: u8 = 0x24;
}

pub mod flag {
    pub const MORE: u8 = 1;
    pub const ERROR: u8 = 2;
    pub const JSON: u8 = 4;
    pub const RETAIN: u8 = 8;
}

/// A frame of the router link.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub id: u32,
    pub name: String,
    pub body: Vec<u8>,
}

pub fn frame(kind: u8, flags: u8, id: u32, name: &str, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, flags];
    out.extend((name.len() as u16).to_be_bytes());
    out.extend(id.to_be_bytes());
    out.extend((body.len() as u32).to_be_bytes());
    out.extend(name.as_bytes());
    out.extend(body);
    out
}

/// A message in parts of at most `part` bytes, each a frame.
pub fn parts(kind: u8, flags: u8, id: u32, name: &str, body: &[u8], part: usize) -> Vec<Vec<u8>> {
    let count = body.len().div_ceil(part).max(1);
    (0..count)
        .map(|index| {
            let end = body.len().min((index + 1) * part);
            let more = if index + 1 < count { flag::MORE } else { 0 };
            frame(kind, flags | more, id, if index == 0 { name } else { "" }, &body[index * part..end])
        })
        .collect()
}

/// Takes the first whole frame off `input`.
pub fn take_frame(input: &mut Vec<u8>) -> Option<Frame> {
    let number =
        |range: std::ops::Range<usize>| range.fold(0usize, |sum, index| sum << 8 | usize::from(input[index]));
    if input.len() < 12 {
        return None;
    }
    let (name_len, body_len) = (number(2..4), number(8..12));
    let end = 12 + name_len + body_len;
    if input.len() < end {
        return None;
    }
    let frame = Frame {
        kind: input[0],
        flags: input[1],
        id: number(4..8) as u32,
        name: String::from_utf8_lossy(&input[12..12 + name_len]).into_owned(),
        body: input[12 + name_len..end].to_vec(),
    };
    input.drain(..end);
    Some(frame)
}

/// A client's WebSocket frame: masked.
pub fn websocket_frame(opcode: u8, is_last: bool, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![opcode | if is_last { 0x80 } else { 0 }];
    match payload.len() {
        short @ 0..126 => out.push(0x80 | short as u8),
        medium @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend((medium as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend((long as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// Takes the first whole frame of a server off `input`: opcode and payload.
pub fn take_websocket_frame(input: &mut Vec<u8>) -> Result<Option<(u8, Vec<u8>)>, String> {
    if input.len() < 2 {
        return Ok(None);
    }
    if input[0] & 0xf0 != 0x80 || input[1] & 0x80 != 0 {
        return Err(format!("a server frame that begins with {:02x} {:02x}", input[0], input[1]));
    }
    let extra = match input[1] {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    if input.len() < 2 + extra {
        return Ok(None);
    }
    let length = match extra {
        0 => usize::from(input[1]),
        _ => input[2..2 + extra].iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)),
    };
    let end = 2 + extra + length;
    if input.len() < end {
        return Ok(None);
    }
    let (opcode, payload) = (input[0] & 0x0f, input[2 + extra..end].to_vec());
    input.drain(..end);
    Ok(Some((opcode, payload)))
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub closes: bool,
    pub body: Vec<u8>,
}

/// Takes the first whole answer off `input`. `is_bare`: it answers a HEAD, or its body is read apart.
pub fn take_answer(input: &mut Vec<u8>, is_bare: bool) -> Result<Option<Answer>, String> {
    let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&input[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status: u16 = first
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| format!("a status line {first:?}"))?;
    let mut answer = Answer { status, content_type: String::new(), closes: false, body: Vec::new() };
    let (mut length, mut is_chunked) = (0, false);
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or_else(|| format!("a header line {line:?}"))?;
        match &*name.to_ascii_lowercase() {
            "content-length" => length = value.parse().map_err(|_| format!("a length {value:?}"))?,
            "transfer-encoding" => is_chunked = value == "chunked",
            "content-type" => answer.content_type = value.into(),
            "connection" => answer.closes = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    if is_chunked && !is_bare {
        let mut rest = input[end + 4..].to_vec();
        loop {
            match take_chunk(&mut rest)? {
                None => return Ok(None),
                Some(chunk) if chunk.is_empty() => break,
                Some(chunk) => answer.body.extend(chunk),
            }
        }
        *input = rest;
        return Ok(Some(answer));
    }
    if is_bare || status < 200 || status == 204 {
        length = 0;
    }
    if input.len() < end + 4 + length {
        return Ok(None);
    }
    answer.body = input[end + 4..end + 4 + length].to_vec();
    input.drain(..end + 4 + length);
    Ok(Some(answer))
}

/// Takes the first whole chunk of a body off `input`; an empty one is the last.
pub fn take_chunk(input: &mut Vec<u8>) -> Result<Option<Vec<u8>>, String> {
    let Some(end) = input.windows(2).position(|bytes| bytes == b"\r\n") else { return Ok(None) };
    let line = String::from_utf8_lossy(&input[..end]).into_owned();
    let size = usize::from_str_radix(&line, 16).map_err(|_| format!("a chunk size {line:?}"))?;
    let whole = end + 2 + size + 2;
    if input.len() < whole {
        return Ok(None);
    }
    if &input[whole - 2..whole] != b"\r\n" {
        return Err(format!("a chunk of {size} bytes without its end"));
    }
    let chunk = input[end + 2..end + 2 + size].to_vec();
    input.drain(..whole);
    Ok(Some(chunk))
}
