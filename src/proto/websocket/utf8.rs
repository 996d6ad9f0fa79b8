//! Text that arrives in pieces, checked as it arrives.

/// The bytes can no longer become UTF-8, whatever follows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotUtf8;

/// Collects UTF-8 that may be cut anywhere. A byte that makes the text impossible is refused when it comes,
/// not at the end of its sequence (RFC 6455 section 8.1; Autobahn calls this fail-fast).
#[derive(Debug, Default)]
pub(super) struct Utf8Collector {
    text: String,
    /// The beginning of a character whose rest has not come yet.
    cut: [u8; 3],
    cut_len: usize,
}

impl Utf8Collector {
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), NotUtf8> {
        while self.cut_len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            self.push_behind_cut(byte)?;
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => self.text.push_str(text),
            // Cut inside a character: what is before it is whole.
            Err(error) if error.error_len().is_none() => {
                let (whole, cut) = bytes.split_at(error.valid_up_to());
                self.push(whole)?;
                self.cut[..cut.len()].copy_from_slice(cut);
                self.cut_len = cut.len();
            }
            Err(_) => return Err(NotUtf8),
        }
        Ok(())
    }

    fn push_behind_cut(&mut self, byte: u8) -> Result<(), NotUtf8> {
        let len = self.cut_len + 1;
        let mut character = [0; 4];
        character[..self.cut_len].copy_from_slice(&self.cut[..self.cut_len]);
        character[self.cut_len] = byte;
        match std::str::from_utf8(&character[..len]) {
            Ok(text) => {
                self.text.push_str(text);
                self.cut_len = 0;
            }
            Err(error) if error.error_len().is_none() => {
                self.cut[self.cut_len] = byte;
                self.cut_len = len;
            }
            Err(_) => return Err(NotUtf8),
        }
        Ok(())
    }

    /// The whole text; an error when it ends inside a character.
    pub(super) fn finish(self) -> Result<String, NotUtf8> {
        if self.cut_len == 0 { Ok(self.text) } else { Err(NotUtf8) }
    }

    /// Bytes taken so far.
    pub(super) fn len(&self) -> usize {
        self.text.len() + self.cut_len
    }

    /// Bytes of heap.
    pub(super) fn capacity(&self) -> usize {
        self.text.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn collect<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<String, NotUtf8> {
        let mut collector = Utf8Collector::default();
        for piece in pieces {
            collector.push(piece)?;
        }
        collector.finish()
    }

    /// Which of the bytes, given one at a time, is refused.
    fn refused_at(bytes: &[u8]) -> Option<usize> {
        let mut collector = Utf8Collector::default();
        bytes.iter().position(|byte| collector.push(&[*byte]).is_err())
    }

    #[test]
    fn a_bad_byte_fails_when_it_comes() {
        assert_eq!(refused_at(b"\xED\xA0\x80"), Some(1), "surrogate");
        assert_eq!(refused_at(b"\xF4\x90\x80\x80"), Some(1), "above U+10FFFF");
        assert_eq!(refused_at(b"\xE0\x80\x80"), Some(1), "overlong");
        assert_eq!(refused_at(b"\xC0\xAF"), Some(0), "overlong");
        assert_eq!(refused_at(b"\xF5"), Some(0));
        assert_eq!(refused_at(b"\x80"), Some(0), "continuation without a start");
        assert_eq!(refused_at(b"a\xF0\x9F\x98b"), Some(4));
        assert_eq!(refused_at("κόσμε😀".as_bytes()), None);
    }

    #[test]
    fn an_unfinished_character_is_refused_at_the_end() {
        assert_eq!(collect([&b"a\xE2\x82"[..]]), Err(NotUtf8));
        assert_eq!(collect([&b"a\xE2\x82"[..], b"\xAC"]), Ok("a€".to_owned()));
    }

    proptest! {
        #[test]
        fn equals_std_wherever_it_is_cut(
            bytes in prop_oneof![any::<String>().prop_map(String::into_bytes), any::<Vec<u8>>()],
            piece in 1usize..9,
        ) {
            let whole = std::str::from_utf8(&bytes);
            prop_assert_eq!(collect(bytes.chunks(piece)).ok(), whole.ok().map(str::to_owned));
            // Fail fast: the byte that std could not continue with is the one refused.
            let first_bad = whole.err().and_then(|e| {
                e.error_len()?;
                (e.valid_up_to()..bytes.len()).find(|&i| {
                    std::str::from_utf8(&bytes[e.valid_up_to()..=i]).is_err_and(|e| e.error_len().is_some())
                })
            });
            prop_assert_eq!(refused_at(&bytes), first_bad);
        }
    }
}
