//! What a WebSocket client has been shown: events in order and once, retained values, presence; and what it must have been.

use crate::model::{Context, event_number, is_healthy};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub const PRESENCE: &str = "$presence";

pub struct Subscription {
    pub router: String,
    pub topic: String,
    /// Events that begin from here on must come.
    pub from: usize,
}

#[derive(Default)]
pub struct Watcher {
    pub subscriptions: BTreeMap<u64, Subscription>,
    /// It has ended a subscription: retained values may come again, and nothing can be said to be missing.
    pub has_unsubscribed: bool,
    live: BTreeSet<usize>,
    retained: BTreeSet<usize>,
    /// The last event by router, topic and the connection that it came from.
    last_of_link: BTreeMap<(String, String, u64), usize>,
    last_seq: BTreeMap<(String, String), u64>,
    /// The last event of each router, of whatever topic, unless it has gone back by asking for older ones.
    last_of_router: BTreeMap<String, u64>,
    /// The session that each router is online with, as presence said it last.
    presence: BTreeMap<String, Option<String>>,
    /// The numbers of each router's events that it had, whichever way.
    seqs: BTreeMap<String, BTreeSet<u64>>,
    /// Runs of numbers that a replay was to bring, all of them: router, the one before the first, the last.
    recovered: Vec<(String, u64, u64)>,
    /// Routers of which it was told that events are missing.
    gaps: BTreeSet<String>,
}

impl Watcher {
    /// A subscription goes on behind event `since` of a router; `last` had been when it began.
    pub fn recovers(&mut self, router: &str, topic: &str, since: u64, last: u64) {
        if topic == "*" {
            self.recovered.push((router.into(), since, last));
        }
        let before = self.last_of_router.entry(router.into()).or_insert(since);
        *before = since.min(*before);
    }

    /// An `event` notification has come.
    pub fn event(&mut self, params: &Value, context: &mut Context<'_>) {
        let text = |name: &str| params[name].as_str().unwrap_or("").to_owned();
        let (router, topic, is_retained) = (text("router"), text("topic"), params["retained"] == true);
        let is_replayed = params["replayed"] == true;
        let what = if is_retained { "retained" } else { "event" };
        context.model.count(if is_replayed { "replayed" } else { what });
        if params["gap"] == true {
            self.gaps.insert(router);
            return;
        }
        if topic == PRESENCE {
            return self.presence_event(router, &params["body"], is_retained, context);
        }
        if !is_retained {
            let seq = params["seq"].as_u64().unwrap_or(0);
            let before = self.last_of_router.insert(router.clone(), seq).unwrap_or(0);
            if before >= seq && !context.model.forgotten && !crate::settings::forgets(context.settings) {
                context.model.fail(format!("seq {seq} of {router} behind {before}: {params}"));
            }
            self.seqs.entry(router.clone()).or_default().insert(params["seq"].as_u64().unwrap_or(0));
        }
        let bytes = BASE64_STANDARD.decode(text("body_base64")).unwrap_or_default();
        let number = event_number(params, &bytes);
        let Some(event) = number.and_then(|number| context.model.events.get(number)) else {
            // One without a body clears the topic; it has no number.
            if !bytes.is_empty() || params.get("body").is_some() || is_retained {
                context.model.fail(format!("an event that nobody sent: {params}"));
            }
            return;
        };
        let number = number.unwrap_or_default();
        let same_body = if params.get("body").is_some() {
            serde_json::from_slice::<Value>(&event.body).is_ok_and(|sent| sent == params["body"])
        } else {
            event.body == bytes && !event.json
        };
        if event.router != router || event.topic != topic || !same_body {
            return context.model.fail(format!("event {number} came with other words: {router} {topic}"));
        }
        let serial = event.link.borrow().serial;
        if is_retained {
            let again = !self.retained.insert(number) || self.live.contains(&number);
            if again && !self.has_unsubscribed {
                context.model.fail(format!("event {number} came again, as retained"));
            }
        } else if is_replayed {
            // It may be older than what another subscription has brought.
            if !self.live.insert(number) && !self.has_unsubscribed {
                context.model.fail(format!("event {number} came again, as replayed"));
            }
            return;
        } else {
            let before = self.last_of_link.insert((router.clone(), topic.clone(), serial), number);
            if !self.live.insert(number)
                || self.retained.contains(&number)
                || before.is_some_and(|before| before >= number)
            {
                context.model.fail(format!("event {number} came again or out of order"));
            }
        }
        let may_begin_anew = context.model.forgotten || crate::settings::forgets(context.settings);
        let seq = params["seq"].as_u64().unwrap_or(0);
        let before = self.last_seq.insert((router, topic), seq).unwrap_or(0);
        if seq == 0 || before >= seq && !may_begin_anew && !(is_retained && self.has_unsubscribed) {
            context.model.fail(format!("event {number}: seq {seq} behind {before}"));
        }
    }

    fn presence_event(&mut self, router: String, body: &Value, is_retained: bool, context: &mut Context<'_>) {
        let session = body["session"].as_str().map(str::to_owned);
        let online = body["online"] == true;
        if !is_retained && session.is_none() || online && session.is_none() {
            return context.model.fail(format!("presence of {router}: {body}"));
        }
        if let Some(known) = self.presence.get(&router)
            && !is_retained
            && !self.has_unsubscribed
            && !online
            && *known != session
        {
            context.model.fail(format!("presence of {router}: {session:?} went, but {known:?} was there"));
        }
        self.presence.insert(router, session.filter(|_| online));
    }

    /// When everything is calm: who was well all the time has got everything.
    pub fn check_calm(&self, link: u64, context: &mut Context<'_>) {
        if self.has_unsubscribed {
            return;
        }
        if !context.model.forgotten && !crate::settings::forgets(context.settings) {
            self.check_recovered(link, context);
        }
        for (number, event) in context.model.events.iter().enumerate() {
            if self.gaps.contains(&event.router) {
                continue;
            }
            let wanted = self.subscriptions.values().any(|subscription| {
                let router = subscription.router == "*" || subscription.router == event.router;
                let topic = subscription.topic == "*" || subscription.topic == event.topic;
                router && topic && number >= subscription.from
            });
            let sure =
                event.is_sent && event.welcomed && !event.body.is_empty() && is_healthy(&event.link.borrow());
            if wanted && sure && event.link.borrow().unread() == 0 && !self.live.contains(&number) {
                return context.model.fail(format!("event {number} was missed by link {}", link));
            }
        }
        for subscription in self.subscriptions.values().filter(|subscription| subscription.topic == PRESENCE)
        {
            for binding in context.model.bindings.iter() {
                let named = subscription.router == "*" || subscription.router == binding.router;
                if !named || !is_healthy(&binding.link.borrow()) {
                    continue;
                }
                if self.presence.get(&binding.router) != Some(&Some(binding.session.clone())) {
                    return context.model.fail(format!("presence of {} was missed", binding.router));
                }
            }
        }
    }

    /// What was recovered has come without a hole, and what happened since.
    fn check_recovered(&self, link: u64, context: &mut Context<'_>) {
        for (router, since, last) in self.recovered.iter().filter(|(router, ..)| !self.gaps.contains(router))
        {
            let had = self.seqs.get(router).cloned().unwrap_or_default();
            let last = had.last().map_or(*last, |newest| *newest.max(last));
            if let Some(seq) = (since + 1..=last).find(|seq| !had.contains(seq)) {
                let problem = format!("event {seq} of {router} was missed by link {link}, since {since}");
                return context.model.fail(problem);
            }
        }
    }
}
