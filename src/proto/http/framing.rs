//! How long a request's body is, told by Content-Length and Transfer-Encoding (RFC 9112 section 6).
//!
//! Request smuggling lives here: two parsers that disagree about a length disagree about where the next request begins.
//! So everything that any parser might read otherwise is refused, also where the RFC would let a recipient repair it
//! (a repeated Content-Length, empty list elements).

use super::error::HeadError;
use super::is_token_byte;
use super::method::Version;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    None,
    /// Content-Length, in bytes; may be 0.
    Exactly(u64),
    Chunked,
}

/// What the framing fields said, gathered line by line.
#[derive(Default)]
pub(super) struct Framing {
    content_length: Option<u64>,
    transfer_encoding: bool,
    chunked: bool,
    unknown_coding: bool,
}

impl Framing {
    pub(super) fn content_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.content_length.is_some() {
            return Err(HeadError::BadRequest("more than one Content-Length"));
        }
        self.content_length =
            Some(decimal(value).ok_or(HeadError::BadRequest("Content-Length is not a number"))?);
        Ok(())
    }

    pub(super) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), HeadError> {
        self.transfer_encoding = true;
        for coding in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let name = coding.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
            if name.is_empty() || !name.iter().copied().all(is_token_byte) {
                return Err(HeadError::BadRequest("Transfer-Encoding cannot be read"));
            }
            if self.chunked {
                return Err(HeadError::BadRequest("Transfer-Encoding has something behind chunked"));
            }
            if !name.eq_ignore_ascii_case(b"chunked") {
                self.unknown_coding = true;
            } else if name.len() == coding.len() {
                self.chunked = true;
            } else {
                return Err(HeadError::BadRequest("chunked takes no parameters"));
            }
        }
        Ok(())
    }

    pub(super) fn body_length(&self, version: Version) -> Result<BodyLength, HeadError> {
        if !self.transfer_encoding {
            return Ok(self.content_length.map_or(BodyLength::None, BodyLength::Exactly));
        }
        if version == Version::Http10 {
            return Err(HeadError::BadRequest("Transfer-Encoding in HTTP/1.0"));
        }
        if self.content_length.is_some() {
            return Err(HeadError::BadRequest("Transfer-Encoding together with Content-Length"));
        }
        // RFC 9112 6.3 makes this a 400 before 6.1 could make it a 501: without chunked the body has no end.
        if !self.chunked {
            return Err(HeadError::BadRequest("the last transfer coding is not chunked"));
        }
        if self.unknown_coding {
            return Err(HeadError::NotImplemented("no transfer coding but chunked is known"));
        }
        Ok(BodyLength::Chunked)
    }
}

/// Digits only: `str::parse` alone would take a sign.
fn decimal(text: &[u8]) -> Option<u64> {
    let digits =
        std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}
