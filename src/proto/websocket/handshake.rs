//! The answer to a request for an upgrade (RFC 6455 section 4.2.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const KEY_BYTES: usize = 16;

/// The value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`; none when the key is not 16 bytes in
/// base64.
pub fn accept_key(key: &str) -> Option<String> {
    // Decoding works in groups of three bytes, so the room is a whole number of them.
    let mut nonce = [0; 18];
    let len = STANDARD.decode_slice(key, &mut nonce).ok()?;
    (len == KEY_BYTES).then(|| tungstenite::handshake::derive_accept_key(key.as_bytes()))
}

/// Appends the `101 Switching Protocols` response. `date` is an HTTP date (RFC 9110 section 5.6.7).
pub fn write_upgrade(out: &mut Vec<u8>, accept: &str, date: &str) {
    for part in [
        "HTTP/1.1 101 Switching Protocols\r\nDate: ",
        date,
        "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ",
        accept,
        "\r\n\r\n",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        let accept = accept_key("dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut out = Vec::new();
        write_upgrade(&mut out, &accept, "Sat, 21 Nov 2026 18:18:17 GMT");
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nDate: Sat, 21 Nov 2026 18:18:17 GMT\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        );
    }

    #[test]
    fn a_key_of_another_length_or_alphabet_is_refused() {
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25j",
            "dGhlIHNhbXBsZSBub25jZWUh",
            "dGhlIHNhbXBsZSBub25jZSB0b28gbG9uZw==",
            "dGhlIHNhbXBsZSBub25j*Q==",
            "dGhlIHNhbXBsZSBub25jZQ== ",
        ] {
            assert_eq!(accept_key(key), None, "{key}");
        }
    }
}
