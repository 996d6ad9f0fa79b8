//! Server-sent events (the HTML standard, section 9.2), as far as the contract's `GET /v1/events` uses them.

/// What stands between two empty lines.
#[derive(Debug, PartialEq)]
pub enum Block<'a> {
    Event {
        topic: &'a str,
        id: Option<&'a str>,
        data: &'a str,
    },
    /// Comments only: the connection lives.
    Comment,
}

/// The block at the start of `bytes` and its length, or `None` while it is incomplete.
///
/// # Errors
/// What the daemon does not send: a field that is unknown or comes twice, an event without topic or data.
pub fn decode(bytes: &[u8]) -> Result<Option<(Block<'_>, usize)>, String> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\n\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| "a block that is not UTF-8".to_string())?;
    let (mut topic, mut id, mut data) = (None, None, None);
    for line in text.split('\n').filter(|line| !line.starts_with(':')) {
        let (field, value) =
            line.split_once(':').ok_or_else(|| format!("a line without a field: {line:?}"))?;
        let place = match field {
            "event" => &mut topic,
            "id" => &mut id,
            "data" => &mut data,
            _ => return Err(format!("the field {field:?}")),
        };
        if place.replace(value.strip_prefix(' ').unwrap_or(value)).is_some() {
            return Err(format!("{field} comes twice"));
        }
    }
    let block = match (topic, id, data) {
        (Some(topic), id, Some(data)) => Block::Event { topic, id, data },
        (None, None, None) => Block::Comment,
        _ => return Err(format!("an event without topic or data: {text:?}")),
    };
    Ok(Some((block, end + 2)))
}

/// The two parts of an event's id.
#[derive(Clone, Debug, PartialEq)]
pub struct EventId {
    /// The daemon's run.
    pub run: String,
    /// One count over all its events.
    pub n: u64,
}

impl EventId {
    /// # Errors
    /// What is not `<run>-<n>`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once('-').filter(|(run, _)| !run.is_empty());
        let parsed = parts.and_then(|(run, n)| Some(Self { run: run.to_string(), n: n.parse().ok()? }));
        parsed.ok_or_else(|| format!("the id {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_decodes_only_when_it_is_whole() {
        let bytes = b":\n\nevent: load\nid: ab-7\ndata: {\"a\": 1}\n\nevent";
        assert_eq!(decode(bytes), Ok(Some((Block::Comment, 3))));
        let event = Block::Event { topic: "load", id: Some("ab-7"), data: "{\"a\": 1}" };
        let whole = bytes.len() - 3 - "event".len();
        assert_eq!(decode(&bytes[3..]), Ok(Some((event, whole))));
        for cut in 0..whole {
            assert_eq!(decode(&bytes[3..3 + cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn presence_has_no_id() {
        let block = Block::Event { topic: "$presence", id: None, data: "{}" };
        let bytes = b"event:$presence\ndata:{}\n\n";
        assert_eq!(decode(bytes), Ok(Some((block, bytes.len()))));
    }

    #[test]
    fn what_the_daemon_does_not_send_is_an_error() {
        for bad in ["data: 1\ndata: 2", "event: a", "id: 1", "retry: 5", "data", "data: {}"] {
            assert!(decode(format!("{bad}\n\n").as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_id_is_a_run_and_a_number() {
        assert_eq!(EventId::parse("a-b-12"), Ok(EventId { run: "a-b".into(), n: 12 }));
        for bad in ["", "12", "-12", "a-", "a-x"] {
            assert!(EventId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
