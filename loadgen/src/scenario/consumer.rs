//! A backend that reads one stream of a router (contract, section 3): every row, once, in order, byte for byte.

use std::time::Duration;

use crate::http::{self, LongAnswer};
use crate::reactor::{self, Ended, Link};
use crate::timers::SECOND;

use super::client::Actor;
use super::pace::Pace;
use super::way::{LEAVE, Way};
use super::world::World;

const READ: u8 = 0;
/// Before it asks again.
const PAUSE: u64 = SECOND / 10;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Down,
    Reading,
    /// All has come; it is about to go.
    Done,
    /// Its router was away: it asks again.
    AskingAgain,
}

pub struct Consumer {
    /// The stream: its place among the world's.
    job: u32,
    /// Read to the end, or given up.
    over: bool,
    /// `None` reads whatever comes.
    pub pace: Option<Pace>,
    /// It reads nothing.
    pub deaf: bool,
    stage: Stage,
    leaving: Option<Way>,
    answer: LongAnswer,
    /// The next row, as it must come.
    expected: Vec<u8>,
    /// READ is set.
    ticking: bool,
}

impl Consumer {
    pub fn new(job: u32) -> Self {
        Self {
            job,
            over: false,
            pace: None,
            deaf: false,
            stage: Stage::Down,
            leaving: None,
            answer: LongAnswer::default(),
            expected: Vec::new(),
            ticking: false,
        }
    }

    /// The next connection reads another stream.
    pub fn next(&mut self, job: u32) {
        (self.job, self.over) = (job, false);
    }

    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Checks and takes the whole rows that have come.
    fn rows(&mut self, world: &mut World) -> Result<(), String> {
        let job = &mut world.jobs[self.job as usize];
        let mut taken = 0;
        while taken < self.answer.body.len() {
            let n = job.from + job.received;
            if self.expected.is_empty() {
                if n == job.end {
                    return Err(format!("{} bytes behind the last row", self.answer.body.len() - taken));
                }
                job.rows.write_delivered(n, &mut self.expected);
            }
            let come = &self.answer.body[taken..];
            if come.len() < self.expected.len() && self.expected.starts_with(come) {
                break;
            }
            if !come.starts_with(&self.expected) {
                return Err(format!("row {n} is {:?}, not {:?}", beginning(come), beginning(&self.expected)));
            }
            taken += self.expected.len();
            world.tally.payload_bytes += self.expected.len() as u64;
            world.tally.rows += 1;
            self.expected.clear();
            job.received += 1;
        }
        self.answer.body.drain(..taken);
        Ok(())
    }

    fn head(&self, world: &World) -> Result<(), String> {
        let json = world.jobs[self.job as usize].rows.json;
        let owed = if json { "application/x-ndjson" } else { http::content_type(false) };
        if (self.answer.status, self.answer.content_type.as_str()) == (200, owed) || self.answer.status == 0 {
            return Ok(());
        }
        let body = beginning(&self.answer.body);
        Err(format!("{} {}: {body}", self.answer.status, self.answer.content_type))
    }
}

/// The first bytes of what is wrong.
fn beginning(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned()
}

impl Actor for Consumer {
    fn is_settled(&self) -> bool {
        self.is_up()
    }

    fn is_up(&self) -> bool {
        self.stage != Stage::Down
    }

    fn waits(&self) -> bool {
        self.stage == Stage::Reading
    }

    fn leave_in(&mut self, link: &mut Link<'_>, delay: Duration, way: Way) {
        if self.is_up() && self.leaving.is_none() {
            self.leaving = Some(way);
            link.wake_at(link.now + delay.as_nanos() as u64, LEAVE);
        }
    }

    fn begin(&mut self, _: &mut World, link: &mut Link<'_>) {
        if !self.is_up() {
            return;
        }
        match self.pace {
            _ if self.deaf => link.allow(Some(0)),
            Some(_) if self.ticking => {}
            Some(_) => {
                self.ticking = true;
                link.wake_at(link.now, READ);
            }
            None => link.allow(None),
        }
    }
}

impl reactor::Client for Consumer {
    type World = World;

    fn connected(&mut self, world: &mut World, link: &mut Link<'_>) {
        world.tally.connections += 1;
        (self.stage, self.leaving, self.ticking) = (Stage::Reading, None, false);
        (self.answer, self.expected) = (LongAnswer::default(), Vec::new());
        let job = &world.jobs[self.job as usize];
        let path = job.path(&world.routers[job.router as usize].id);
        http::get(link.out, &path, &world.http().to_string(), "");
        self.begin(world, link);
    }

    fn received(&mut self, world: &mut World, link: &mut Link<'_>, bytes: &[u8]) -> Result<usize, String> {
        let taken = self.answer.take(bytes)?;
        if world.churn && self.answer.status == 404 {
            if self.answer.is_whole() {
                world.tally.excused += 1;
                self.stage = Stage::AskingAgain;
                link.finish();
            }
            return Ok(taken);
        }
        self.head(world)?;
        self.rows(world)?;
        if self.answer.is_whole() && self.stage == Stage::Reading {
            let job = &world.jobs[self.job as usize];
            if !job.is_delivered() {
                return Err(format!("whole after {} of {} rows", job.received, job.end - job.from));
            }
            self.stage = Stage::Done;
            link.finish();
        }
        Ok(taken)
    }

    fn timer(&mut self, _: &mut World, link: &mut Link<'_>, timer: u8) {
        match timer {
            READ => {
                self.ticking = false;
                if let Some(pace) = self.pace.as_mut().filter(|_| !self.deaf) {
                    let again = pace.allow(link);
                    self.ticking = true;
                    link.wake_at(again, READ);
                }
            }
            LEAVE if self.leaving == Some(Way::Reset) => link.reset(),
            LEAVE => link.finish(),
            _ => {}
        }
    }

    fn ended(&mut self, world: &mut World, link: &mut Link<'_>, why: Ended) {
        let stage = std::mem::replace(&mut self.stage, Stage::Down);
        if stage == Stage::AskingAgain && self.leaving.is_none() {
            // It is up still, as far as anyone waits for it.
            self.stage = stage;
            return link.connect_at(link.now + PAUSE);
        }
        self.over = true;
        if self.leaving.take().is_some() || stage == Stage::Done {
            return;
        }
        let job = &world.jobs[self.job as usize];
        let detail = format!(
            "stream {} of router {}, {} of {} rows came: {why:?}",
            self.job,
            job.router,
            job.received,
            job.end - job.from
        );
        world.errors.add(&format!("consumer_{}", why.kind()), detail);
    }
}
