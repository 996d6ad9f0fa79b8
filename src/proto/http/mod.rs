//! HTTP/1.1, the server's side, as a sans-IO codec (contract section 3; RFC 9110, 9112, 9457).
//!
//! [`parse_head`] and [`BodyReader`] take bytes cut anywhere and borrow or copy out of them; [`write_answer`] appends an
//! answer to a buffer. Nothing here knows a socket, a clock or a route. What could be read in two ways is refused, and
//! behind every [`HeadError`] and [`BodyError`] the connection has to be closed: where the next request begins is no
//! longer certain.

mod body;
mod chunked;
mod chunks;
mod error;
mod framing;
mod head;
mod method;
mod problem;
mod response;
mod target;

#[cfg(test)]
mod head_tests;

pub use body::BodyReader;
pub use chunks::{LAST_CHUNK, SizeLine, chunk_bytes};
pub use error::{BodyError, HeadError};
pub use framing::BodyLength;
pub use head::{Head, MAX_HEADERS, parse_head};
pub use method::{Method, Version};
pub use problem::Problem;
pub use response::{Answer, BodyEnd, CONTINUE, reason_phrase, write_answer, write_head};
pub use target::{BadEscape, host_name, is_address_or_localhost, origin_host, percent_decode, query_pairs};

/// A byte of a token (RFC 9110 section 5.6.2): methods, field names, codings.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A byte of a field value or a quoted string: tab, space, visible ASCII, and `obs-text` (RFC 9110 section 5.5).
fn is_text_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
