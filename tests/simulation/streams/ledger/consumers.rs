//! What consumers are given: rows in order and each once, whole answers, cut ones and problems.

use super::*;

impl Model {
    pub(super) fn consumer_was(
        &mut self,
        serial: u64,
        happened: Happened,
        settings: &Settings,
        now: Time,
    ) -> Result<(), String> {
        let Some(mut responses) = self.streams.responses.remove(&serial) else { return Ok(()) };
        let mut result = Ok(());
        match happened {
            Happened::Read(_) => {}
            Happened::Written(bytes) => {
                responses.write(&bytes);
                while result.is_ok() {
                    let streams = &self.streams.asked;
                    let stream = |number: u64| {
                        let asked = &streams[&number];
                        (asked.rows.clone(), asked.from)
                    };
                    result = match responses.next(stream) {
                        Ok(None) => break,
                        Ok(Some(brought)) => self.brought(brought, responses.is_head, settings, now),
                        Err(problem) => Err(problem),
                    };
                }
            }
            Happened::Ended => result = self.consumer_ended(&responses, serial, settings, now),
        }
        let link = responses.link.clone();
        self.streams.responses.insert(serial, responses);
        result.map_err(|problem| format!("link {}: {problem}", link.borrow().serial))
    }

    fn brought(
        &mut self,
        brought: Brought,
        is_head: bool,
        settings: &Settings,
        now: Time,
    ) -> Result<(), String> {
        match brought {
            Brought::Other | Brought::LastWord => Ok(()),
            Brought::Head(number) if is_head => self.end(number, "head", now),
            Brought::Head(_) => Ok(()),
            Brought::Row(number) => {
                self.count("stream row");
                let streams = &mut self.streams;
                let Some(asked) = streams.asked.get_mut(&number) else { return Ok(()) };
                let row = asked.next;
                asked.next += 1;
                let open = asked.last_open.and_then(|key| streams.opens.get(&key));
                match open {
                    Some(open) if row >= open.next => {
                        Err(format!("row {row} of stream {number} came before it was sent"))
                    }
                    Some(open) if open.forbidden.is_some_and(|forbidden| row >= forbidden) => {
                        Err(format!("row {row} of stream {number} was over its window, or of another form"))
                    }
                    Some(_) => Ok(()),
                    None => Err(format!("stream {number} was never opened")),
                }
            }
            Brought::Whole(number) => {
                let asked = &self.streams.asked[&number];
                if !asked.ends.contains(&asked.next) {
                    return Err(format!(
                        "stream {number} is whole, but its router did not end it at {}",
                        asked.next
                    ));
                }
                self.end(number, "whole", now)
            }
            Brought::Problem(number, answer) => {
                self.judge_problem(number, &answer, settings, now)?;
                self.end(number, "problem", now)
            }
        }
    }

    fn end(&mut self, number: u64, how: &'static str, now: Time) -> Result<(), String> {
        self.count(&format!("stream: {how}"));
        match self.streams.asked.get_mut(&number).and_then(|asked| asked.end.replace((how, now))) {
            Some(before) => Err(format!("stream {number} ended twice: {how} behind {before:?}")),
            None => Ok(()),
        }
    }

    /// The server has ended its side: what had begun is cut, or whole where only that tells.
    fn consumer_ended(
        &mut self,
        responses: &Responses,
        serial: u64,
        settings: &Settings,
        now: Time,
    ) -> Result<(), String> {
        let begun = responses.under_way();
        let Some(number) = begun.map(|(number, _)| number).or(responses.awaits()) else { return Ok(()) };
        let asked = &self.streams.asked[&number];
        if self.streams.cut.contains_key(&serial) || asked.end.is_some() {
            return Ok(());
        }
        let is_chunked = begun.is_none_or(|(_, is_chunked)| is_chunked);
        if !is_chunked && asked.ends.contains(&asked.next) {
            return self.end(number, "whole", now);
        }
        responses.check_rest()?;
        let is_justified = self.may_cut(asked, settings, now);
        self.streams.cut.insert(serial, Cut { has_begun: begun.is_some(), is_justified });
        self.end(number, "cut", now)
    }

    /// What is told before the first row.
    fn judge_problem(
        &mut self,
        number: u64,
        answer: &Answer,
        settings: &Settings,
        now: Time,
    ) -> Result<(), String> {
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let text = |name: &str| problem[name].as_str().unwrap_or("").to_owned();
        let (code, detail) = (text("code"), text("detail"));
        self.count(&format!("stream problem: {code}"));
        let asked = &self.streams.asked[&number];
        let is_bound = self.is_surely_bound(&asked.router, asked.at) && !self.tight_memory;
        // HEAD is told the status and no more.
        let is_bare = answer.body.is_empty();
        let is_right = match (answer.status, &*code) {
            (404, "router_offline") => !is_bound,
            (429, "router_busy") => self.may_be_full(number, settings) || !is_bound,
            (502, "router_error") => self.is_error(asked, &detail, settings, now),
            (503, "router_lost") => self.is_lost(asked, settings, now),
            (503, "draining") => self.draining,
            (404 | 429 | 502 | 503, "") => is_bare,
            _ => false,
        };
        if asked.next != asked.from || asked.last_open.is_some() && matches!(answer.status, 404 | 429) {
            return Err(format!("stream {number} is refused as {code} though it had begun"));
        }
        if is_right {
            Ok(())
        } else {
            Err(format!("stream {number} is refused as {code} ({detail}) without cause"))
        }
    }
}
