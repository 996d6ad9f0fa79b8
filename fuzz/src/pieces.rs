//! Bytes as a network delivers them: cut anywhere.

/// The same bytes whole, byte by byte, and cut at places that follow from the bytes themselves, so that every input
/// always gets the same cuts.
pub fn cuttings(data: &[u8]) -> [Vec<&[u8]>; 3] {
    [vec![data], data.chunks(1).collect(), uneven(data)]
}

/// Pieces of 1 to 64 bytes.
pub fn uneven(data: &[u8]) -> Vec<&[u8]> {
    // FNV-1a over the data is the seed of a xorshift.
    let seed = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut random = data.iter().fold(0xcbf2_9ce4_8422_2325, seed) | 1;
    let (mut pieces, mut rest) = (Vec::new(), data);
    while !rest.is_empty() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let (piece, behind) = rest.split_at(rest.len().min((random % 64) as usize + 1));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

/// Feeds the pieces as the reactor does: what `take` has not taken is given again in front of what comes next. It says
/// how many bytes it has taken, or `None` when it wants no more.
pub fn feed(pieces: &[&[u8]], mut take: impl FnMut(&mut [u8]) -> Option<usize>) {
    let mut waiting = Vec::new();
    for piece in pieces {
        waiting.extend_from_slice(piece);
        let Some(taken) = take(&mut waiting) else { return };
        waiting.drain(..taken);
    }
}
