//! What the operator sees of connections: lists and single ones (SPEC section 3).

use super::connection::{Connection, Session};
use super::engine::Engine;
use crate::api::routes::Page;
use crate::core::shadows::Shadow;
use crate::id::{SessionId, Token};
use crate::memory;
use crate::net::transport::Transport;
use serde_json::{Value, json};
use std::ops::Bound;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

impl<T: Transport> Engine<T> {
    /// The bound routers of a page.
    pub(super) fn list_routers(&self, page: &Page<'_>) -> Value {
        let shadows = self.shadows.page(&page.prefix, page.after.as_deref());
        let bound =
            shadows.filter_map(|shadow| Some((shadow, shadow.bound?, self.table.get(shadow.bound?)?)));
        let list = bound.map(|(shadow, token, connection)| {
            (shadow.id.to_string(), self.router_json(shadow, token, connection))
        });
        paged("routers", list, page.limit)
    }

    pub(super) fn show_router(&self, router: &str) -> Option<Value> {
        let shadow = self.shadows.get(self.shadows.find(router)?);
        let token = shadow.bound?;
        Some(self.router_json(shadow, token, self.table.get(token)?))
    }

    /// Bound and remembered ones, for apps and pages.
    pub(super) fn known_routers(&self, page: &Page<'_>) -> Value {
        let shadows = self.shadows.page(&page.prefix, page.after.as_deref());
        let list = shadows.map(|shadow| {
            (shadow.id.to_string(), json!({ "router": &*shadow.id, "online": shadow.bound.is_some() }))
        });
        paged("routers", list, page.limit)
    }

    pub(super) fn list_clients(&self, page: &Page<'_>) -> Value {
        // An `after` that is no client id is compared as text, like every id.
        let after = page.after.as_deref().unwrap_or("");
        let from = SessionId::parse(after).map_or(Bound::Unbounded, Bound::Excluded);
        let clients = self.clients.range((from, Bound::Unbounded));
        let list = clients.filter_map(|(client, token)| {
            let id = client.to_string();
            let wanted = id.starts_with(&*page.prefix) && id.as_str() > after;
            wanted.then_some((id, self.client_json(*client, *token, self.table.get(*token)?)))
        });
        paged("clients", list, page.limit)
    }

    pub(super) fn client(&self, client: &str) -> Option<Token> {
        self.clients.get(&SessionId::parse(client)?).copied()
    }

    fn router_json(&self, shadow: &Shadow, token: Token, connection: &Connection<T>) -> Value {
        let (session, pending, streams) = match &connection.session {
            Session::Router(session) => (
                session.bound.map(|bound| bound.session.to_string()),
                session.commands.len(),
                session.streams.len(),
            ),
            _ => (None, 0, 0),
        };
        let mut entry =
            json!({ "router": &*shadow.id, "session": session, "pending": pending, "streams": streams });
        add_account(&mut entry, token, connection);
        entry
    }

    fn client_json(&self, client: SessionId, token: Token, connection: &Connection<T>) -> Value {
        let (subscriptions, pending) = match &connection.session {
            Session::WebSocket(session) => (session.subscriptions.len(), session.commands.len()),
            _ => (0, 0),
        };
        let mut entry = json!({
            "client": client.to_string(), "kind": connection.class.name(), "subscriptions": subscriptions, "pending": pending,
        });
        add_account(&mut entry, token, connection);
        entry
    }
}

/// What every connection has.
fn add_account<T: Transport>(entry: &mut Value, token: Token, connection: &Connection<T>) {
    let info = connection.io.info().unwrap_or_default();
    let since = OffsetDateTime::from_unix_timestamp_nanos(i128::from(connection.opened_unix_ms) * 1_000_000)
        .ok()
        .and_then(|since| since.format(&Rfc3339).ok());
    let traffic = connection.traffic;
    let account = json!({
        "address": connection.peer.to_string(),
        "since": since,
        "bytes_in": traffic.bytes_in,
        "bytes_out": traffic.bytes_out,
        "messages_in": traffic.messages_in,
        "messages_out": traffic.messages_out,
        "queued_bytes": connection.out.queued_bytes(),
        "heap_bytes": memory::owned_by(token),
        "rtt_us": info.rtt_us,
        "retransmits": info.retransmits,
    });
    if let (Value::Object(entry), Value::Object(account)) = (entry, account) {
        entry.extend(account);
    }
}

/// The first `limit` of a list, and the id to go on behind if there are more.
fn paged(name: &str, mut list: impl Iterator<Item = (String, Value)>, limit: usize) -> Value {
    let (mut entries, mut last) = (Vec::new(), None);
    for (id, entry) in list.by_ref().take(limit) {
        entries.push(entry);
        last = Some(id);
    }
    let next = if list.next().is_some() { last } else { None };
    json!({ name: entries, "next": next })
}
