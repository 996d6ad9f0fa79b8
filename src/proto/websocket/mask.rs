//! Undoing the mask of client frames (RFC 6455 section 5.3), in place.

/// Removes `mask` from `bytes`, whose first byte was masked with the first byte of it. A word at a time: with
/// the key repeated into a word the bytes' order does not matter.
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_the_byte_wise_definition_of_the_rfc(mut bytes: Vec<u8>, mask: [u8; 4]) {
            let expected: Vec<u8> = bytes.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
            unmask(&mut bytes, mask);
            prop_assert_eq!(bytes, expected);
        }
    }
}
