//! The stream that a simulated router has for someone who tries the daemon out: lines of a log, under any name.

use std::io::Write;

use crate::frame::stream::Open;
use crate::stream::{Next, Source};

/// Rows of a stream, unless `?rows=N` asks for another number.
const ROWS: u32 = 1000;

pub struct LogRows<'a> {
    /// The router's id.
    pub router: &'a str,
}

impl Source for LogRows<'_> {
    /// The number of rows stands for the stream: that is all there is to know of it.
    fn open(&mut self, open: &Open<'_>) -> Result<Option<u32>, String> {
        let asked = open.query.split('&').find_map(|part| part.strip_prefix("rows=")?.parse().ok());
        Ok(Some(asked.unwrap_or(ROWS)))
    }

    fn next(&mut self, rows: u32, n: u64, row: &mut Vec<u8>) -> Next {
        if n >= u64::from(rows) {
            return Next::End;
        }
        let _ = write!(row, r#"{{"router":"{}","n":{n},"line":"something happened"}}"#, self.router);
        Next::Row { json: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_may_ask_for_a_number_of_rows() {
        let mut rows = LogRows { router: "r" };
        let open = |query| Open { name: "log", max_messages: 1, max_bytes: 16_384, from: 0, query };
        assert_eq!(rows.open(&open("")), Ok(Some(ROWS)));
        assert_eq!(rows.open(&open("a=b&rows=2")), Ok(Some(2)));
        let mut row = Vec::new();
        assert_eq!(
            (rows.next(2, 1, &mut row), rows.next(2, 2, &mut Vec::new())),
            (Next::Row { json: true }, Next::End)
        );
        assert_eq!(row, br#"{"router":"r","n":1,"line":"something happened"}"#);
    }
}
