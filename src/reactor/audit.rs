//! The audit: every table against every other. What it finds names the dead; there must be none, ever (SPEC section 6).

use super::connection::{Connection, Session};
use super::engine::Engine;
use crate::core::hub::OfClient;
use crate::core::wheel::Due;
use crate::id::{Class, Token};
use crate::memory::Holder;
use crate::net::transport::Transport;
use crate::session::http::Task;
use crate::session::websocket::Replay;
use std::collections::HashMap;
use std::time::Duration;

/// A timer fires at most one tick late.
const TICK: Duration = Duration::from_millis(1);

/// What each connection has, added up while walking the connections.
#[derive(Default)]
struct Sums {
    frames: usize,
    held_bytes: usize,
    subscriptions: usize,
    commands_of_routers: usize,
    commands_of_callers: usize,
    streams_of_routers: usize,
    streams_of_consumers: usize,
    clients: usize,
    bound: usize,
    counted_addresses: usize,
}

impl<T: Transport> Engine<T> {
    /// A sentence for everything that does not agree. Costs a walk over all tables.
    pub fn audit(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut sums = Sums::default();
        for (token, connection) in self.table.iter() {
            self.audit_connection(token, connection, &mut sums, &mut found);
        }
        self.audit_sums(&sums, &mut found);
        self.audit_commands(&mut found);
        self.audit_streams(&mut found);
        self.audit_timers(&mut found);
        self.audit_registry(&mut found);
        self.audit_counts(&mut found);
        found
    }

    fn audit_connection(
        &self,
        token: Token,
        connection: &Connection<T>,
        sums: &mut Sums,
        found: &mut Vec<String>,
    ) {
        let (frames, bytes) = connection.out.recount(&self.frames, &self.commands);
        if bytes != connection.out.queued_bytes() {
            found.push(format!(
                "queue of {token:?}: {bytes} bytes, {} counted",
                connection.out.queued_bytes()
            ));
        }
        if connection.held_bytes() != connection.held {
            found.push(format!(
                "{token:?} holds {} bytes, {} counted",
                connection.held_bytes(),
                connection.held
            ));
        }
        sums.frames += frames;
        sums.held_bytes += connection.held;
        sums.counted_addresses += usize::from(self.listen_settings(connection.class).max_per_ip.is_some());
        if let Some(subscriptions) = connection.subscriptions() {
            sums.subscriptions += subscriptions.len();
            self.audit_subscriptions(token, connection, subscriptions, found);
        }
        match &connection.session {
            Session::Router(session) => {
                sums.commands_of_routers += session.commands.len();
                let mut replies = 0;
                for key in session.commands.iter(self.commands.entries()) {
                    let command = self.commands.get(key);
                    replies += command.reply_bytes();
                    if command.router != token {
                        found.push(format!(
                            "command {key} in the list of {token:?} names {:?}",
                            command.router
                        ));
                    }
                }
                if replies + session.half_event_bytes() != session.half_bytes() {
                    found.push(format!(
                        "{token:?}: {} bytes of half messages, {replies} in replies",
                        session.half_bytes()
                    ));
                }
                sums.streams_of_routers += session.streams.len();
                if let Some(bound) = session.bound {
                    sums.bound += usize::from(self.shadows.bound_on(bound.shadow, token).is_some());
                }
            }
            Session::Http(session) => {
                sums.commands_of_callers += session.commands.len();
                sums.streams_of_consumers += usize::from(matches!(session.task, Task::Stream(_)));
                if !matches!(session.task, Task::None) && session.answering().is_none() {
                    found.push(format!("{token:?} makes an answer that nobody asked for"));
                }
                let most = match &session.task {
                    Task::None => usize::from(session.answering().is_some()),
                    Task::Stream(_) | Task::Watch(_) => 0,
                    Task::Fleet(fleet) => fleet.asked() as usize,
                };
                if session.commands.len() > most {
                    found.push(format!("{token:?} awaits {} commands", session.commands.len()));
                }
            }
            Session::WebSocket(session) => {
                sums.commands_of_callers += session.commands.len();
                if session.is_open() != (self.clients.get(&session.client) == Some(&token)) {
                    found.push(format!(
                        "{token:?} is {} but the registry differs",
                        if session.is_open() { "open" } else { "not open" }
                    ));
                }
                sums.clients += usize::from(session.is_open());
                for replay in session.replays.iter().flat_map(|replays| replays.iter()) {
                    if let Replay::Values { subscription, .. } = replay
                        && !self.hub.keys(&session.subscriptions).any(|key| key == *subscription)
                    {
                        found.push(format!("{token:?} replays to subscription {subscription} that is gone"));
                    }
                }
            }
            Session::LastWords(_) => {
                if connection.held > 0 || connection.input.capacity() > 0 {
                    found.push(format!("{token:?} holds a buffer in its last words"));
                }
            }
        }
    }

    fn audit_subscriptions(
        &self,
        token: Token,
        connection: &Connection<T>,
        list: &OfClient,
        found: &mut Vec<String>,
    ) {
        // Who has nothing ahead and is not on the list would wait for ever.
        let is_hungry = connection.is_being_replayed_to() && connection.out.replay_bytes() == 0;
        if is_hungry && !connection.in_replaying && !connection.is_over() {
            found.push(format!("{token:?} is forgotten in the middle of a replay"));
        }
        for key in self.hub.keys(list) {
            if self.hub.get(key).client != token {
                found.push(format!(
                    "subscription {key} in the list of {token:?} names {:?}",
                    self.hub.get(key).client
                ));
            }
        }
    }

    fn audit_sums(&self, sums: &Sums, found: &mut Vec<String>) {
        let bound = self.shadows.iter().filter(|(_, shadow)| shadow.bound.is_some()).count();
        for (what, summed, table) in [
            ("queued frames", sums.frames, self.frames.len()),
            ("held bytes", sums.held_bytes, self.held_bytes),
            ("subscriptions", sums.subscriptions, self.hub.len()),
            ("commands of routers", sums.commands_of_routers, self.commands.len()),
            ("commands of callers", sums.commands_of_callers, self.commands.len()),
            ("streams of routers", sums.streams_of_routers + self.streams.adrift().len(), self.streams.len()),
            ("streams of consumers", sums.streams_of_consumers, self.streams.len()),
            ("clients", sums.clients, self.clients.len()),
            ("bound routers", sums.bound, bound),
            ("counted addresses", sums.counted_addresses, self.addresses.total()),
        ] {
            if summed != table {
                found.push(format!("{what}: {summed} by the connections, {table} by the table"));
            }
        }
    }

    fn audit_commands(&self, found: &mut Vec<String>) {
        for (slot, command) in self.commands.entries().iter() {
            if self.commands.find(command.router, command.id) != Some(slot as u32) {
                found.push(format!("command {slot} is not found by its id"));
            }
            for (what, token) in [("router", command.router), ("caller", command.caller.connection)] {
                if self.table.get(token).is_none_or(|c| matches!(c.session, Session::LastWords(_))) {
                    found.push(format!("command {slot} names the {what} {token:?}, which is gone"));
                }
            }
            if command.deadline + 2 * TICK < self.timers_fired_at {
                found.push(format!("command {slot} is past its deadline"));
            }
        }
        if self.commands.ids().count() != self.commands.len() {
            found.push("the index of commands has another length than their table".into());
        }
    }

    fn audit_streams(&self, found: &mut Vec<String>) {
        for (slot, stream) in self.streams.entries().iter() {
            let consumer = self.table.get(stream.consumer).map(|connection| &connection.session);
            let is_its = |session: &Session| matches!(session, Session::Http(http) if matches!(http.task, Task::Stream(key) if key as usize == slot));
            if !consumer.is_some_and(is_its) {
                found.push(format!(
                    "stream {slot} names the consumer {:?}, which does not have it",
                    stream.consumer
                ));
            }
            let Some(token) = stream.session else { continue };
            if self.table.get(token).is_none_or(|c| !matches!(c.session, Session::Router(_))) {
                found.push(format!("stream {slot} names the router {token:?}, which is gone"));
            }
            if stream.gatherer().is_some_and(|open| self.streams.find(token, open.id) != Some(slot as u32)) {
                found.push(format!("stream {slot} is not found by its id"));
            }
        }
    }

    fn audit_timers(&self, found: &mut Vec<String>) {
        let mut of_connections = HashMap::new();
        let mut of_commands = HashMap::new();
        let mut of_streams = HashMap::new();
        for (key, due) in self.wheel.iter() {
            let (owner, expected, table) = match due {
                Due::Connection(token) => {
                    (token, self.table.get(token).map(|connection| connection.timer), &mut of_connections)
                }
                Due::Command(token) => {
                    let command = self.commands.by_token(token);
                    (token, command.map(|command| self.commands.get(command).timer), &mut of_commands)
                }
                Due::Stream(token) => {
                    let stream = self.streams.by_token(token);
                    (token, stream.map(|stream| self.streams.get(stream).timer), &mut of_streams)
                }
            };
            if expected != Some(key) {
                found.push(format!("timer {key:?} is for {due:?}, which does not have it"));
            }
            *table.entry(owner).or_insert(0) += 1;
        }
        let owners = self.table.len() + self.commands.len() + self.streams.len();
        if of_connections.len() + of_commands.len() + of_streams.len() != owners {
            found.push("a connection, a command or a stream has no timer".into());
        }
    }

    fn audit_registry(&self, found: &mut Vec<String>) {
        for (key, shadow) in self.shadows.iter() {
            let Some(token) = shadow.bound else { continue };
            let bound = self.table.get(token).and_then(|connection| match &connection.session {
                Session::Router(session) => session.bound,
                _ => None,
            });
            if bound.is_none_or(|bound| bound.shadow != key) {
                found.push(format!("router {} is registered on {token:?}, which is gone", shadow.id));
            }
        }
        for (client, token) in &self.clients {
            if self.table.get(*token).is_none_or(|c| !matches!(c.session, Session::WebSocket(_))) {
                found.push(format!("client {client} is registered on {token:?}, which is gone"));
            }
        }
        for (key, subscription) in self.hub.iter() {
            if self.table.get(subscription.client).is_none_or(|client| client.subscriptions().is_none()) {
                found.push(format!("subscription {key} names {:?}, which is gone", subscription.client));
            }
        }
        let fleet_messages = self.table.iter().filter_map(|(_, connection)| connection.fleet()?.message());
        let recounts = [
            self.shadows.recount(),
            self.hub.recount(),
            self.commands.recount(fleet_messages),
            self.streams.recount(),
            self.frames.recount(),
        ];
        found.extend(recounts.into_iter().filter_map(Result::err));
    }

    /// `opened - unbound == live` in every class, and the reasons sum up.
    fn audit_counts(&self, found: &mut Vec<String>) {
        for holder in Holder::ALL {
            let Some((count, live)) = self.objects(holder) else { continue };
            let name = holder.name();
            if count.opened.checked_sub(count.unbound) != Some(live as u64) {
                found
                    .push(format!("{name}: {} opened, {} unbound, {live} live", count.opened, count.unbound));
            }
        }
        for class in Class::ALL {
            let reasons: u64 = self.census.reasons(class).map(|(_, count)| count).sum();
            if reasons != self.census.connections(class).unbound {
                found.push(format!("{}: the reasons do not sum up to what was unbound", class.name()));
            }
        }
    }
}
