//! How a schedule ends: it calms down, drains or is left by everybody; then every command has its answer, and nothing is
//! left of anything.

use super::*;

impl World {
    /// No new requests; what is under way comes to its end, and then whoever was well has got everything.
    pub(super) fn calm_down(&mut self) -> Result<(), String> {
        self.is_calm = true;
        let (least, most) = (self.now + Duration::from_secs(2), self.now + Duration::from_secs(60));
        while self.now < least || self.awaited().is_some() || self.model.streams.awaited().is_some() {
            if self.now > most || self.turns > MOST_TURNS {
                return Err(match (self.awaited(), self.model.streams.awaited()) {
                    (Some(nonce), _) => format!("command {nonce} has no answer, and its caller waits"),
                    (_, Some(stream)) => format!("stream {stream} has no end, and its consumer waits"),
                    _ => "time stands still: something is always due".into(),
                });
            }
            self.step()?;
        }
        let actors = std::mem::take(&mut self.actors);
        for actor in &actors {
            self.with_context(|context| match actor {
                Actor::Router(router) => router.check_calm(context),
                Actor::Caller(caller) => caller.check_calm(context),
                Actor::Client(client) => client.check_calm(context),
                Actor::Source(source) => source.check_calm(context),
                Actor::Consumer(_) => {} // the ledger knows
            });
        }
        self.actors = actors;
        self.model.check_streams();
        self.is_calm = false;
        self.judge()
    }

    /// A command without an answer whose caller is well.
    fn awaited(&self) -> Option<u64> {
        let waits = |link: &Link| crate::model::is_healthy(link) && link.unread() == 0;
        let mut commands = self.model.commands.iter();
        commands
            .find(|(_, asked)| asked.answer.is_none() && waits(&asked.caller.borrow()))
            .map(|(nonce, _)| *nonce)
    }

    pub(super) fn drain(&mut self) -> Result<(), String> {
        self.model.count("drain");
        self.model.draining = true;
        self.network.is_draining = true;
        self.network.backlog.retain(|link| link.borrow().class == Class::Http);
        self.network.links.retain(|link| link.borrow().token.is_some() || link.borrow().class == Class::Http);
        self.engine.set_now(clock(self.now));
        self.engine.drain();
        self.take_ends();
        self.audit()?;
        let until = self.now + self.settings.drain + self.settings.close_grace + Duration::from_secs(1);
        self.is_calm = self.random.chance(50);
        while !self.engine.is_drained() && self.now < until {
            if self.turns > MOST_TURNS {
                return Err("time stands still in the drain: something is always due".into());
            }
            self.step()?;
        }
        self.engine.set_now(clock(self.now));
        self.engine.end_all();
        self.take_ends();
        self.audit()?;
        self.network.backlog.clear();
        self.network.links.clear();
        self.is_calm = true;
        self.act()?; // what is in the kernel is still taken
        self.act()
    }

    pub(super) fn all_leave(&mut self) -> Result<(), String> {
        let mut actors = std::mem::take(&mut self.actors);
        self.with_context(|context| {
            for actor in &mut actors {
                match actor {
                    Actor::Router(router) => router.leave(context),
                    Actor::Caller(caller) => caller.leave(context),
                    Actor::Client(client) => client.leave(context),
                    Actor::Source(source) => source.leave(context),
                    Actor::Consumer(consumer) => consumer.leave(context),
                }
            }
        });
        self.network.backlog.clear();
        self.network.links.retain(|link| link.borrow().token.is_some());
        // Those whose peer waits without a word for the server to close: nobody is there to do more.
        for link in &self.network.links {
            let mut link = link.borrow_mut();
            link.widen();
            if !link.did.fin && !link.did.reset && !link.did.dead {
                link.finish();
            }
        }
        let until = self.now + PATIENCE;
        while !self.network.links.is_empty() {
            for link in &self.network.links {
                let mut link = link.borrow_mut();
                link.take(usize::MAX);
                // A host that has vanished while it owes an acknowledgement is given up by the kernel.
                if link.did.dead && link.untaken() > 0 && self.random.chance(2) {
                    link.time_out();
                }
            }
            self.turn()?;
            let next = self.engine.next_due();
            if self.now >= until || self.turns > MOST_TURNS {
                return Err(format!("{} connections do not end", self.network.links.len()));
            }
            self.advance();
            if next.is_none() {
                self.now = self.now + Duration::from_secs(1);
                self.shared.now.set(self.now);
                for link in self.network.links.iter().filter(|link| link.borrow().did.dead) {
                    link.borrow_mut().time_out();
                }
            }
        }
        Ok(())
    }

    /// Time passes until nothing is due any more.
    pub(super) fn forget_shadows(&mut self) -> Result<(), String> {
        for _ in 0..200 {
            let Some(next) = self.engine.next_due() else { return Ok(()) };
            self.now = self.now.max(next);
            self.shared.now.set(self.now);
            self.turn()?;
        }
        Err("something is always due, though everybody is gone".into())
    }

    /// Every command has its one answer, unless its caller's connection ended first.
    pub(super) fn check_answers(&self) -> Result<(), String> {
        for (nonce, asked) in &self.model.commands {
            let caller = asked.caller.borrow();
            if asked.answer.is_some() || !asked.received {
                continue;
            }
            let did = caller.did;
            let own_doing = did.left_first
                || did.bye
                || did.reset
                || did.timed_out
                || did.dead
                || did.stalled
                || did.cut_off
                || did.broke_rules;
            let ended_first = matches!(
                caller.end,
                Some(
                    Reason::HeartbeatTimeout | Reason::SlowConsumer | Reason::LimitExceeded | Reason::Kicked
                )
            );
            if !own_doing && !ended_first && caller.untaken() == 0 {
                return Err(format!(
                    "command {nonce} was never answered; its caller, {} {}, ended as {:?}",
                    caller.class.name(),
                    caller.serial,
                    caller.end
                ));
            }
        }
        Ok(())
    }

    pub(super) fn check_drained_to_zero(&mut self) -> Result<(), String> {
        self.audit()?;
        let census = self.engine.census_json(true);
        let left = census["classes"].as_object().into_iter().flatten().find(|(_, count)| {
            count.get("live").is_some_and(|live| *live != 0) || count["opened"] != count["unbound"]
        });
        if let Some((class, count)) = left {
            return Err(format!("{class} has not drained to zero: {count}"));
        }
        if census["audit"]["ok"] != true || census["buffered_bytes"] != 0 {
            return Err(format!("what is left: {census}"));
        }
        let (open, lost, closed) = (self.shared.open.get(), self.shared.lost.get(), self.shared.closed.get());
        let ended: u64 =
            Class::ALL.iter().map(|class| self.engine.counts().connections(*class).unbound).sum();
        if open != 0 || lost != 0 || closed != ended {
            return Err(format!(
                "sockets: {open} open, {lost} dropped, {closed} closed, {ended} connections ended"
            ));
        }
        if self.engine.next_due().is_some() {
            return Err("something is still due".into());
        }
        self.check_nothing_stays()
    }

    /// Every class holds what it held at the start, to the byte.
    fn check_nothing_stays(&mut self) -> Result<(), String> {
        self.now = self.now + Duration::from_secs(2);
        self.turn()?; // the tables give back
        let held = berth::memory::holdings();
        for holder in Holder::ALL.into_iter().filter(|holder| *holder != Holder::Other) {
            let (before, after) = (self.held_at_start.of(holder).bytes, held.of(holder).bytes);
            if before != after {
                return Err(format!("{}: {before} bytes at the start, {after} at the end", holder.name()));
            }
        }
        Ok(())
    }
}
