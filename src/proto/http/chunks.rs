//! The chunked coding of answers whose length is not known when they begin (RFC 9112 section 7.1). Requests in it are read by
//! `chunked.rs`.

/// What ends a body that is whole. One that is cut ends without it.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The longest size line: sixteen hex digits and CRLF.
const MAX_SIZE_LINE: usize = 18;

/// The line in front of a chunk: its size in hex. Behind the chunk there is CRLF.
#[derive(Clone, Copy, Debug)]
pub struct SizeLine {
    bytes: [u8; MAX_SIZE_LINE],
    start: usize,
}

impl SizeLine {
    /// A chunk of no bytes would end the body: there is none.
    pub fn new(bytes: usize) -> Self {
        debug_assert!(bytes > 0);
        let mut line = Self { bytes: [b'\n'; MAX_SIZE_LINE], start: MAX_SIZE_LINE - 2 };
        line.bytes[MAX_SIZE_LINE - 2] = b'\r';
        let mut rest = bytes;
        while rest > 0 {
            line.start -= 1;
            line.bytes[line.start] = b"0123456789abcdef"[rest % 16];
            rest /= 16;
        }
        line
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// What a chunk of `bytes` takes on the wire: with its size line, and the CRLF behind it.
pub fn chunk_bytes(bytes: usize) -> usize {
    let digits = (usize::BITS - bytes.leading_zeros()).div_ceil(4) as usize;
    digits + 2 + bytes + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_in_hex_without_leading_zeros() {
        for (bytes, line) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (0xabcd, "abcd\r\n")] {
            assert_eq!(SizeLine::new(bytes).as_bytes(), line.as_bytes());
            assert_eq!(chunk_bytes(bytes), line.len() + bytes + 2);
        }
        assert_eq!(SizeLine::new(usize::MAX).as_bytes(), b"ffffffffffffffff\r\n");
    }
}
