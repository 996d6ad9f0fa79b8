//! One stream of a scenario: what its rows are, what its router does wrong on purpose, how far it has come.

use crate::frame::stream::Open;
use crate::rows::Rows;
use crate::stream::{Next, Source};

/// What a router does wrong on purpose, each time once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Every so many rows one is left out.
    pub gap_every: Option<u64>,
    /// Every so many rows the router's connection breaks.
    pub reconnect_every: Option<u64>,
}

/// What a consumer asks for.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub max_messages: u32,
    pub max_bytes: u32,
}

pub struct Job {
    /// The router's index.
    pub router: u32,
    pub rows: Rows,
    /// The first row's sequence number.
    pub from: u64,
    /// Behind the last row's.
    pub end: u64,
    pub window: Window,
    pub faults: Faults,
    /// Rows that the consumer has had: it is checked there, and counted here.
    pub received: u64,
    pub gaps: u64,
    pub reconnects: u64,
    pub opens: u64,
    open: bool,
    /// Behind the highest row that was ever sent.
    sent: u64,
    acknowledged: u64,
    last_gap: u64,
    last_break: u64,
}

impl Job {
    pub fn new(router: u32, rows: Rows, (from, end): (u64, u64), window: Window, faults: Faults) -> Self {
        Self {
            router,
            rows,
            from,
            end,
            window,
            faults,
            received: 0,
            gaps: 0,
            reconnects: 0,
            opens: 0,
            open: false,
            sent: from,
            acknowledged: from,
            last_gap: from,
            last_break: from,
        }
    }

    fn name(&self) -> String {
        format!("rows-{}", self.rows.stream)
    }

    fn query(&self) -> String {
        format!("tag={}&left=as+it%20is", self.rows.stream)
    }

    /// Path and query of the consumer's GET; `router` is the router's id.
    pub fn path(&self, router: &str) -> String {
        let Window { max_messages, max_bytes } = self.window;
        let (name, from, query) = (self.name(), self.from, self.query());
        format!(
            "/v1/routers/{router}/streams/{name}?max_messages={max_messages}&{query}&max_bytes={max_bytes}&from={from}"
        )
    }

    pub fn is_delivered(&self) -> bool {
        self.received == self.end - self.from
    }

    /// Whether the server may ask for this: what the consumer asked for, from no row that it has had already or that was
    /// never sent, and not while it is still asking.
    fn asked(&mut self, open: &Open<'_>) -> Result<(), String> {
        let right = !self.open
            && (open.max_messages, open.max_bytes) == (self.window.max_messages, self.window.max_bytes)
            && (self.acknowledged..=self.sent).contains(&open.from)
            && open.query == self.query();
        if !right {
            return Err(format!(
                "{open:?}; open {}, {} acknowledged, {} sent, {:?}",
                self.open, self.acknowledged, self.sent, self.window
            ));
        }
        self.open = true;
        self.opens += 1;
        Ok(())
    }

    fn next(&mut self, n: u64, row: &mut Vec<u8>) -> Next {
        if n >= self.end {
            return Next::End;
        }
        // Each stream at rows of its own.
        let count = n + self.rows.stream % 101;
        let due = |every: Option<u64>, last: u64| {
            n > last && every.is_some_and(|every| count.is_multiple_of(every))
        };
        if due(self.faults.reconnect_every, self.last_break) {
            self.last_break = n;
            self.reconnects += 1;
            return Next::Break;
        }
        if due(self.faults.gap_every, self.last_gap) {
            self.last_gap = n;
            self.gaps += 1;
            return Next::Skip;
        }
        self.sent = self.sent.max(n + 1);
        self.rows.write(n, row);
        Next::Row { json: self.rows.json }
    }
}

/// The streams that one router has, among all.
pub struct Shelf<'a> {
    pub router: u32,
    pub jobs: &'a mut [Job],
}

impl Source for Shelf<'_> {
    fn open(&mut self, open: &Open<'_>) -> Result<Option<u32>, String> {
        let place = open.name.strip_prefix("rows-").and_then(|place| place.parse::<u32>().ok());
        let Some(job) = place.and_then(|place| self.jobs.get_mut(place as usize)) else { return Ok(None) };
        if job.router != self.router {
            return Err(format!("{} of router {} was asked for here", open.name, job.router));
        }
        job.asked(open)?;
        Ok(place)
    }

    fn next(&mut self, stream: u32, n: u64, row: &mut Vec<u8>) -> Next {
        self.jobs[stream as usize].next(n, row)
    }

    fn acknowledged(&mut self, stream: u32, next: u64) {
        self.jobs[stream as usize].acknowledged = next;
    }

    fn closed(&mut self, stream: u32) {
        self.jobs[stream as usize].open = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { max_messages: 20, max_bytes: 65_536 };

    fn job(faults: Faults) -> Job {
        let rows = Rows { seed: 1, stream: 0, bytes: (10, 20), json: true };
        Job::new(4, rows, (5, 100), WINDOW, faults)
    }

    fn open(job: &Job, from: u64) -> Result<Option<u32>, String> {
        let (name, query) = (job.name(), job.query());
        let open = Open { name: &name, max_messages: 20, max_bytes: 65_536, from, query: &query };
        let mut jobs = [Job::new(4, job.rows, (5, 100), WINDOW, job.faults)];
        jobs[0].sent = job.sent;
        jobs[0].acknowledged = job.acknowledged;
        jobs[0].open = job.open;
        Shelf { router: 4, jobs: &mut jobs }.open(&open)
    }

    #[test]
    fn the_server_asks_for_what_is_missing_and_for_nothing_else() {
        let mut job = job(Faults::default());
        assert_eq!(open(&job, 5), Ok(Some(0)));
        assert!(open(&job, 6).is_err(), "never sent");
        (job.sent, job.acknowledged) = (9, 7);
        assert_eq!(open(&job, 7), Ok(Some(0)));
        assert_eq!(open(&job, 9), Ok(Some(0)));
        assert!(open(&job, 6).is_err(), "had already");
        job.open = true;
        assert!(open(&job, 7).is_err(), "asked for twice");
    }

    #[test]
    fn each_fault_comes_once() {
        let mut job = job(Faults { gap_every: Some(10), reconnect_every: Some(20) });
        let mut row = Vec::new();
        let mut next = |n| job.next(n, &mut row);
        assert_eq!(next(5), Next::Row { json: true });
        assert_eq!(next(10), Next::Skip);
        assert_eq!(next(10), Next::Row { json: true });
        assert_eq!(next(20), Next::Break);
        assert_eq!(next(20), Next::Skip);
        assert_eq!(next(20), Next::Row { json: true });
        assert_eq!(next(100), Next::End);
        assert_eq!((job.gaps, job.reconnects), (2, 1));
    }
}
