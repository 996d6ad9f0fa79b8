//! Keeping events in histories, and forgetting them.

use super::history::EVENT_BYTES;
use super::{Event, Message, Remembered, Shadows};
use crate::fault::{Fault, planted};
use crate::limits::ShadowSettings;
use crate::memory::{Holder, charge};

impl Shadows {
    /// Keeps an event in the history, in place of the oldest ones: of its router, and where all shadows together are too large,
    /// of all. `message` is that of its topic's value, if it has become that.
    pub(super) fn remember(
        &mut self,
        key: u32,
        seq: u64,
        event: &Event<'_>,
        message: Option<Message>,
        limits: &ShadowSettings,
    ) {
        let number = self.order.published;
        let bytes = event.topic.len() + event.body.len();
        let fits = limits.remembers(bytes);
        let (most, most_bytes) =
            if fits { (limits.history_events - 1, limits.history_bytes - bytes) } else { (0, 0) };
        let is_full = |shadows: &Self| {
            let history = &shadows.get(key).history;
            history.len() > most || history.bytes() > most_bytes
        };
        while is_full(self) {
            self.forget_first(key);
        }
        let more = EVENT_BYTES + if message.is_some() { 0 } else { bytes };
        let is_over = |shadows: &Self| shadows.bytes + more > limits.max_total_bytes;
        while fits && is_over(self) && self.forget_oldest() {}
        if fits && !is_over(self) {
            let _charge = charge(Holder::Shadow);
            self.order.insert(number, key);
            return self.change(key, |shadow| {
                let message = message.unwrap_or_else(|| {
                    let message = Message::new(event);
                    shadow.message_bytes += message.heap_bytes();
                    message
                });
                shadow.history.push(Remembered { number, seq, message, json: event.json });
            });
        }
        // What is before it cannot be remembered without it.
        while self.forget_first(key) {}
        self.shadows[key as usize].history.lose(number);
        self.order.lose(number);
    }

    /// Forgets the first event in the history of a shadow; false if it has none.
    fn forget_first(&mut self, key: u32) -> bool {
        let mut lost = None;
        self.change(key, |shadow| lost = shadow.forget_first());
        if let Some(number) = lost {
            self.order.lose(number);
        }
        lost.is_some()
    }

    /// The same for the oldest event of all.
    pub(super) fn forget_oldest(&mut self) -> bool {
        self.order.oldest().is_some_and(|key| self.forget_first(key))
    }

    /// Forgets all that is remembered of the events of a shadow, which may go or begin anew.
    pub(super) fn forget_history(&mut self, key: u32) {
        if planted(Fault::KeepHistory) {
            return;
        }
        while self.forget_first(key) {}
    }

    /// For the audit: every event is in the order of all, behind what its router has lost, and its bytes are counted.
    pub(super) fn recount_histories(&self) -> Result<(), String> {
        let remembered: usize = self.iter().map(|(_, shadow)| shadow.remembered()).sum();
        if remembered != self.remembered() {
            return Err(format!("histories: {remembered} events, {} in their order", self.remembered()));
        }
        for (key, shadow) in self.iter() {
            let (history, id) = (&shadow.history, &shadow.id);
            if shadow.recount_messages() != shadow.message_bytes {
                return Err(format!("messages of {id}: {} bytes counted", shadow.message_bytes));
            }
            // In a daemon with millions of events the ends stand for the rest, which were counted.
            let ends = [0, history.len().saturating_sub(1)];
            let every = if cfg!(debug_assertions) { 0..history.len() } else { 0..0 };
            let events = ends.into_iter().chain(every).filter_map(|index| history.get(index));
            for event in events {
                if self.order.shadow_of(event.number) != Some(key) || event.number <= history.lost() {
                    return Err(format!("history of {id}: event {} is out of order", event.number));
                }
            }
        }
        Ok(())
    }
}
