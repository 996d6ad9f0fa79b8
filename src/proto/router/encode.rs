//! From frames to bytes, as a server writes them. Lengths are the caller's to keep: they are its own constants.

use super::{HEADER_BYTES, Kind};

/// The header of a frame.
pub fn header(kind: Kind, flags: u8, id: u32, name_len: usize, body_len: usize) -> [u8; HEADER_BYTES] {
    let [n0, n1] = (name_len as u16).to_be_bytes();
    let [i0, i1, i2, i3] = id.to_be_bytes();
    let [b0, b1, b2, b3] = (body_len as u32).to_be_bytes();
    [kind as u8, flags, n0, n1, i0, i1, i2, i3, b0, b1, b2, b3]
}

/// A whole frame of the system lane, written to `out`.
pub fn system_frame(out: &mut Vec<u8>, kind: Kind, flags: u8, id: u32, name: &str, body: &[u8]) {
    out.extend_from_slice(&header(kind, flags, id, name.len(), body.len()));
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::router::{Frame, decode};

    #[test]
    fn what_is_written_reads_back() {
        let mut out = Vec::new();
        system_frame(&mut out, Kind::Pong, 0, 0x0102_0304, "", b"ping");
        assert_eq!(&out[..12], [4, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 4]);
        let frame = decode(&mut &out[..]).unwrap();
        assert_eq!(
            frame,
            Some(Frame { kind: Kind::Pong, flags: 0, id: 0x0102_0304, name: "", body: b"ping" })
        );
    }
}
