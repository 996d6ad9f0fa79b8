//! The Date field of answers.

use crate::memory::{Holder, charge};
use time::OffsetDateTime;
use time::macros::format_description;

/// The value of Date (RFC 9110 section 6.6.1), formatted once a second.
#[derive(Debug, Default)]
pub(super) struct DateCache {
    second: u64,
    text: String,
}

impl DateCache {
    pub fn text(&mut self, unix_ms: u64) -> &str {
        if self.text.is_empty() || unix_ms / 1000 != self.second {
            let _charge = charge(Holder::Other); // it outlives whoever asked
            self.second = unix_ms / 1000;
            let format = format_description!(
                "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
            );
            let date =
                OffsetDateTime::from_unix_timestamp(self.second as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            self.text = date.format(format).unwrap_or_default();
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_the_rfc() {
        let mut cache = DateCache::default();
        assert_eq!(cache.text(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(cache.text(784_111_778_999), "Sun, 06 Nov 1994 08:49:38 GMT");
    }
}
