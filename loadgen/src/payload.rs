//! Bodies that prove themselves: every byte follows from the seed and a few fields that the body carries, so whoever
//! receives one can build it again and compare.

use std::io::Write;

use serde::Deserialize;

use crate::random::{Random, mix};

const COMMAND_MAGIC: &[u8; 4] = b"LGc1";
const REPLY_MAGIC: &[u8; 4] = b"LGr1";
const EVENT_MAGIC: &[u8; 4] = b"LGe1";

/// What a command's payload tells the router.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct CommandFields {
    /// Unique in the whole run; below 2^53, so that every JSON library keeps it.
    pub nonce: u64,
    /// About how long the reply is to be.
    pub reply_bytes: u32,
    pub reply_json: bool,
}

#[derive(Deserialize)]
struct EventJson<'a> {
    seed: u64,
    n: u64,
    sent_ns: u64,
    fill: &'a str,
}

/// `len` bytes that follow from `key` and `len`, so that a shorter one is no beginning of a longer one; printable and
/// free of what JSON escapes if `text`.
pub(crate) fn fill(out: &mut Vec<u8>, key: u64, len: usize, text: bool) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = Random::new(key ^ mix(len as u64));
    let end = out.len() + len;
    while out.len() < end {
        let mut word = random.draw().to_le_bytes();
        if text {
            word = word.map(|byte| ALPHABET[usize::from(byte & 63)]);
        }
        out.extend_from_slice(&word[..word.len().min(end - out.len())]);
    }
}

/// FNV-1a: what the router says it received.
fn digest(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn write_command(
    seed: u64,
    fields: &CommandFields,
    json: bool,
    fill_len: impl Fn(usize) -> usize,
) -> Vec<u8> {
    let key = mix(seed ^ mix(fields.nonce));
    let mut out = Vec::new();
    if json {
        let CommandFields { nonce, reply_bytes, reply_json } = fields;
        let _ = write!(
            out,
            r#"{{"nonce":{nonce},"reply_bytes":{reply_bytes},"reply_json":{reply_json},"fill":""#
        );
        let len = fill_len(out.len() + 2);
        fill(&mut out, key, len, true);
        out.extend_from_slice(b"\"}");
    } else {
        out.extend_from_slice(COMMAND_MAGIC);
        out.extend_from_slice(&fields.nonce.to_be_bytes());
        out.extend_from_slice(&fields.reply_bytes.to_be_bytes());
        out.push(u8::from(fields.reply_json));
        let len = fill_len(out.len());
        fill(&mut out, key, len, false);
    }
    out
}

/// A command's payload of `size` bytes (a little more if the fields need it).
pub fn command(seed: u64, fields: &CommandFields, json: bool, size: usize) -> Vec<u8> {
    write_command(seed, fields, json, |used| size.saturating_sub(used))
}

/// The router's side: what the payload asks for, if it is exactly what its fields imply.
///
/// # Errors
/// A text that says what is wrong with it.
pub fn check_command(seed: u64, body: &[u8], json: bool) -> Result<CommandFields, String> {
    let fields = if json {
        serde_json::from_slice(body).map_err(|e| format!("command payload: {e}"))?
    } else {
        let fixed = body.first_chunk::<17>().filter(|fixed| fixed.starts_with(COMMAND_MAGIC));
        let fixed = fixed.ok_or("command payload without its fields")?;
        CommandFields {
            nonce: u64::from_be_bytes(fixed[4..12].try_into().expect("eight bytes")),
            reply_bytes: u32::from_be_bytes(fixed[12..16].try_into().expect("four bytes")),
            reply_json: fixed[16] == 1,
        }
    };
    let expected = write_command(seed, &fields, json, |used| body.len().saturating_sub(used));
    if expected != body {
        return Err(format!("the payload of command {:#x} was changed on its way", fields.nonce));
    }
    Ok(fields)
}

/// The reply that a router owes to the payload `received`: its own id, a digest of what it received, and filler.
pub fn reply(seed: u64, router: &str, fields: &CommandFields, received: &[u8]) -> Vec<u8> {
    let digest = digest(received);
    let key = mix(seed ^ digest);
    let size = fields.reply_bytes as usize;
    let mut out = Vec::with_capacity(size);
    if fields.reply_json {
        let nonce = fields.nonce;
        let _ = write!(out, r#"{{"nonce":{nonce},"router":"{router}","digest":"{digest:016x}","fill":""#);
        let len = size.saturating_sub(out.len() + 2);
        fill(&mut out, key, len, true);
        out.extend_from_slice(b"\"}");
    } else {
        out.extend_from_slice(REPLY_MAGIC);
        out.extend_from_slice(&fields.nonce.to_be_bytes());
        out.extend_from_slice(&digest.to_be_bytes());
        out.push(router.len() as u8);
        out.extend_from_slice(router.as_bytes());
        let len = size.saturating_sub(out.len());
        fill(&mut out, key, len, false);
    }
    out
}

/// What an event's body carries: the seed of its run, for a retained value may be of an earlier one, the router's own
/// count from 1, and when it was sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EventFields {
    pub seed: u64,
    pub n: u64,
    pub sent_ns: u64,
}

fn write_event(router: u32, fields: &EventFields, json: bool, fill_len: impl Fn(usize) -> usize) -> Vec<u8> {
    let EventFields { seed, n, sent_ns } = fields;
    let key = mix(seed ^ mix(u64::from(router) << 40 ^ n));
    let mut out = Vec::new();
    if json {
        let _ = write!(out, r#"{{"seed":{seed},"n":{n},"sent_ns":{sent_ns},"fill":""#);
        let len = fill_len(out.len() + 2);
        fill(&mut out, key, len, true);
        out.extend_from_slice(b"\"}");
    } else {
        out.extend_from_slice(EVENT_MAGIC);
        out.extend_from_slice(&seed.to_be_bytes());
        out.extend_from_slice(&n.to_be_bytes());
        out.extend_from_slice(&sent_ns.to_be_bytes());
        let len = fill_len(out.len());
        fill(&mut out, key, len, false);
    }
    out
}

/// An event's body of `size` bytes (a little more if the fields need it).
pub fn event(router: u32, fields: &EventFields, json: bool, size: usize) -> Vec<u8> {
    write_event(router, fields, json, |used| size.saturating_sub(used))
}

/// The watcher's side: the fields, if the body is exactly what they imply for this router.
///
/// # Errors
/// A text that says what is wrong with it.
pub fn check_event(router: u32, body: &[u8], json: bool) -> Result<EventFields, String> {
    if json {
        let parsed: EventJson = serde_json::from_slice(body).map_err(|e| format!("event body: {e}"))?;
        let fields = EventFields { seed: parsed.seed, n: parsed.n, sent_ns: parsed.sent_ns };
        let expected = write_event(router, &fields, true, |_| parsed.fill.len());
        return if same_json(&expected, body) { Ok(fields) } else { Err(changed(&fields)) };
    }
    let fixed = body.first_chunk::<28>().filter(|fixed| fixed.starts_with(EVENT_MAGIC));
    let fixed = fixed.ok_or("event body without its fields")?;
    let fields = EventFields {
        seed: u64::from_be_bytes(fixed[4..12].try_into().expect("eight bytes")),
        n: u64::from_be_bytes(fixed[12..20].try_into().expect("eight bytes")),
        sent_ns: u64::from_be_bytes(fixed[20..28].try_into().expect("eight bytes")),
    };
    let expected = write_event(router, &fields, false, |used| body.len().saturating_sub(used));
    if expected == body { Ok(fields) } else { Err(changed(&fields)) }
}

fn changed(fields: &EventFields) -> String {
    format!("the body of event {} was changed on its way", fields.n)
}

/// Whether two JSON texts say the same: JSON-RPC promises the value of a body, not its spelling.
pub fn same_json(a: &[u8], b: &[u8]) -> bool {
    let value = |text| serde_json::from_slice::<serde_json::Value>(text).ok();
    a == b || value(a).is_some_and(|a| Some(a) == value(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 42;
    const FIELDS: CommandFields =
        CommandFields { nonce: 0x1f_0000_0000_0007, reply_bytes: 300, reply_json: true };

    #[test]
    fn a_command_proves_itself_in_every_size_and_form() {
        for json in [false, true] {
            for size in [0, 17, 100, 16_384, 70_001] {
                let body = command(SEED, &FIELDS, json, size);
                assert!(body.len() >= size);
                assert_eq!(check_command(SEED, &body, json), Ok(FIELDS), "json {json}, size {size}");
            }
        }
    }

    #[test]
    fn any_changed_byte_of_a_command_is_seen() {
        for json in [false, true] {
            let body = command(SEED, &FIELDS, json, 150);
            for at in 0..body.len() {
                let mut bad = body.clone();
                bad[at] ^= 1;
                assert_ne!(check_command(SEED, &bad, json), Ok(FIELDS), "json {json}, byte {at}");
            }
            assert!(check_command(SEED, &body[..body.len() - 1], json).is_err());
            assert!(check_command(SEED, &[&body[..], b"A"].concat(), json).is_err());
            assert!(check_command(SEED + 1, &body, json).is_err());
        }
    }

    #[test]
    fn a_reply_depends_on_the_router_and_on_every_byte_received() {
        for reply_json in [false, true] {
            let fields = CommandFields { reply_json, ..FIELDS };
            let body = command(SEED, &fields, false, 100);
            let mut other = body.clone();
            other[50] ^= 1;
            let owed = reply(SEED, "load-0001", &fields, &body);
            assert_eq!(owed.len(), 300);
            assert_ne!(owed, reply(SEED, "load-0002", &fields, &body));
            assert_ne!(owed, reply(SEED, "load-0001", &fields, &other));
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&owed).is_ok(), reply_json);
        }
    }

    #[test]
    fn an_event_proves_itself_and_its_router() {
        let fields = EventFields { seed: SEED, n: 9, sent_ns: 123_456 };
        for json in [false, true] {
            for size in [0, 200, 40_000] {
                let body = event(3, &fields, json, size);
                assert_eq!(check_event(3, &body, json), Ok(fields));
                if size > 0 {
                    assert!(check_event(4, &body, json).is_err());
                    let mut bad = body.clone();
                    bad[90] ^= 1;
                    assert!(check_event(3, &bad, json).is_err());
                }
            }
        }
    }

    #[test]
    fn json_may_be_spelled_otherwise_but_not_say_otherwise() {
        assert!(same_json(br#"{"a":1,"b":2}"#, br#"{ "b" : 2, "a" : 1 }"#));
        assert!(!same_json(br#"{"a":1}"#, br#"{"a":2}"#));
        assert!(!same_json(b"{", b"{}"));
    }
}
