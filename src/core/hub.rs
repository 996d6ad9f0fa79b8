//! Who watches what. A channel is a pair of router and topic, each a name or `*`; an event goes to four channels at most.

use crate::census::Count;
use crate::core::list::{Link, Linked, List};
use crate::core::pool::{PAGE_ENTRIES, Pool, is_worth_shrinking};
use crate::fault::{Fault, planted};
use crate::id::Token;
use crate::memory::{Holder, charge};
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

pub const BY_CHANNEL: usize = 0;
pub const BY_CLIENT: usize = 1;
pub type OfClient = List<BY_CLIENT>;

#[derive(Debug)]
pub struct Subscription {
    pub client: Token,
    /// What the client calls it: unique within its connection.
    pub number: u64,
    channel: u32,
    /// The number of the last event before it began: it brings all that come later, live or out of a history.
    pub since: u64,
    /// It begins with retained values, not with events that were missed.
    brings_values: bool,
    by_channel: Link,
    by_client: Link,
}

impl Linked<BY_CHANNEL> for Subscription {
    fn link(&mut self) -> &mut Link {
        &mut self.by_channel
    }
    fn peek(&self) -> &Link {
        &self.by_channel
    }
}

impl Linked<BY_CLIENT> for Subscription {
    fn link(&mut self) -> &mut Link {
        &mut self.by_client
    }
    fn peek(&self) -> &Link {
        &self.by_client
    }
}

/// `None` is `*`.
#[derive(Debug)]
pub struct Channel {
    pub router: Option<Box<str>>,
    pub topic: Option<Box<str>>,
    subscribers: List<BY_CHANNEL>,
}

impl Channel {
    /// Nobody watches it: it should have gone with its last subscription.
    pub fn is_deserted(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// What its names take, in bytes.
    fn name_bytes(&self) -> usize {
        [&self.router, &self.topic].into_iter().flatten().map(|name| name.len()).sum()
    }

    fn hash(&self, hasher: &RandomState) -> u64 {
        hasher.hash_one((self.router.as_deref(), self.topic.as_deref()))
    }

    /// Whether an ordinary event (not presence) of `router` on `topic` belongs here.
    pub fn takes(&self, router: &str, topic: &str) -> bool {
        self.router.as_deref().is_none_or(|name| name == router)
            && self.topic.as_deref().is_none_or(|name| name == topic)
    }
}

pub struct Hub {
    subscriptions: Pool<Subscription>,
    channels: Pool<Channel>,
    /// Channels by their names.
    index: HashTable<u32>,
    hasher: RandomState,
    /// What the names of all channels take, in bytes.
    name_bytes: usize,
    count: Count,
    /// How many events and changes of presence there have been: the mark by which each comes to a client once.
    pub shown: u64,
}

impl Default for Hub {
    fn default() -> Self {
        let _charge = charge(Holder::Subscription);
        Self {
            subscriptions: Pool::new(Holder::Subscription),
            channels: Pool::new(Holder::Subscription),
            index: HashTable::with_capacity(PAGE_ENTRIES),
            hasher: RandomState::new(),
            name_bytes: 0,
            count: Count::default(),
            shown: 0,
        }
    }
}

impl Hub {
    /// Adds a subscription to the end of its client's list, for events behind that of number `since`.
    pub fn subscribe(
        &mut self,
        client: Token,
        number: u64,
        router: Option<&str>,
        topic: Option<&str>,
        since: u64,
        of_client: &mut OfClient,
    ) -> u32 {
        let channel = self.find(router, topic).unwrap_or_else(|| self.open(router, topic));
        let key = self.subscriptions.insert(Subscription {
            client,
            number,
            channel,
            since,
            brings_values: true,
            by_channel: Link::default(),
            by_client: Link::default(),
        }) as u32;
        self.channels[channel as usize].subscribers.push_back(&mut self.subscriptions, key);
        of_client.push_back(&mut self.subscriptions, key);
        self.count.opened += 1;
        key
    }

    /// A subscription brings the events behind number `since`, and no retained values.
    pub fn go_on(&mut self, key: u32, since: u64) {
        let subscription = &mut self.subscriptions[key as usize];
        (subscription.since, subscription.brings_values) = (since, false);
    }

    pub fn unsubscribe(&mut self, key: u32, of_client: &mut OfClient) {
        of_client.remove(&mut self.subscriptions, key);
        let Subscription { channel: channel_key, .. } = self.subscriptions[key as usize];
        let channel = &mut self.channels[channel_key as usize];
        channel.subscribers.remove(&mut self.subscriptions, key);
        self.subscriptions.remove(key as usize);
        self.count.unbound += 1;
        if channel.is_deserted() && !planted(Fault::KeepChannel) {
            self.close(channel_key);
        }
    }

    fn open(&mut self, router: Option<&str>, topic: Option<&str>) -> u32 {
        let _charge = charge(Holder::Subscription);
        let channel = Channel {
            router: router.map(Into::into),
            topic: topic.map(Into::into),
            subscribers: List::default(),
        };
        if planted(Fault::InternNames) {
            std::mem::forget((channel.router.clone(), channel.topic.clone()));
        }
        self.name_bytes += channel.name_bytes();
        let hash = channel.hash(&self.hasher);
        let key = self.channels.insert(channel) as u32;
        let rehash = |key: &u32| self.channels[*key as usize].hash(&self.hasher);
        self.index.insert_unique(hash, key, rehash);
        key
    }

    fn close(&mut self, key: u32) {
        let channel = self.channels.remove(key as usize);
        self.name_bytes -= channel.name_bytes();
        let hash = channel.hash(&self.hasher);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == key) {
            entry.remove();
        }
    }

    /// Frees what a burst has left empty, in steps; true if there is more.
    pub fn give_back(&mut self) -> bool {
        if is_worth_shrinking(self.index.len(), self.index.capacity()) {
            let _charge = charge(Holder::Subscription);
            let rehash = |key: &u32| self.channels[*key as usize].hash(&self.hasher);
            self.index.shrink_to(PAGE_ENTRIES, rehash);
        }
        let more = self.subscriptions.give_back();
        self.channels.give_back() || more
    }

    /// What the subscriptions explain of the heap, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.subscriptions.capacity_bytes()
            + self.channels.capacity_bytes()
            + self.index.allocation_size()
            + self.name_bytes
    }

    fn find(&self, router: Option<&str>, topic: Option<&str>) -> Option<u32> {
        if self.channels.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one((router, topic));
        let same = |key: &u32| {
            let channel = &self.channels[*key as usize];
            channel.router.as_deref() == router && channel.topic.as_deref() == topic
        };
        self.index.find(hash, same).copied()
    }

    /// Appends the clients that watch an event of `router` on `topic`; one that has several matching subscriptions
    /// comes several times. A topic of the server's own is only for those who asked for it by name.
    pub fn watchers(&self, router: &str, topic: &str, watchers: &mut Vec<Token>) {
        for router in [Some(router), None] {
            self.append(router, Some(topic), watchers);
            if !topic.starts_with('$') {
                self.append(router, None, watchers);
            }
        }
    }

    fn append(&self, router: Option<&str>, topic: Option<&str>, watchers: &mut Vec<Token>) {
        if let Some(key) = self.find(router, topic) {
            let subscribers = &self.channels[key as usize].subscribers;
            watchers.extend(
                subscribers.iter(&self.subscriptions).map(|key| self.subscriptions[key as usize].client),
            );
        }
    }

    /// The subscription that a client calls `number`.
    pub fn numbered(&self, of_client: &OfClient, number: u64) -> Option<u32> {
        of_client.iter(&self.subscriptions).find(|key| self.get(*key).number == number)
    }

    /// Whether a client needs no retained value of `router` on `topic`, whose last event was number `last`, by `subscription`:
    /// it had that event, or an earlier subscription has brought the value.
    pub fn is_covered(
        &self,
        of_client: &OfClient,
        subscription: u32,
        router: &str,
        topic: &str,
        last: u64,
    ) -> bool {
        let mut is_earlier = true;
        self.keys(of_client).any(|key| {
            is_earlier &= key != subscription;
            let other = self.get(key);
            let has_had = other.since < last || is_earlier && other.brings_values;
            has_had && self.channel(key).takes(router, topic)
        })
    }

    /// Whether a subscription of a client matches event `number` of `router` on `topic`, which came after it began.
    pub fn wants(&self, of_client: &OfClient, router: &str, topic: &str, number: u64) -> bool {
        self.keys(of_client).any(|key| self.get(key).since < number && self.channel(key).takes(router, topic))
    }

    /// The subscriptions of a client, in the order in which they were made.
    pub fn keys(&self, of_client: &OfClient) -> impl Iterator<Item = u32> + '_ {
        of_client.iter(&self.subscriptions)
    }

    pub fn get(&self, key: u32) -> &Subscription {
        &self.subscriptions[key as usize]
    }

    pub fn channel(&self, key: u32) -> &Channel {
        &self.channels[self.subscriptions[key as usize].channel as usize]
    }

    pub fn channels(&self) -> &Pool<Channel> {
        &self.channels
    }

    pub fn subscriptions(&self) -> &Pool<Subscription> {
        &self.subscriptions
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Subscription)> {
        self.subscriptions.iter().map(|(key, subscription)| (key as u32, subscription))
    }

    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    pub fn count(&self) -> Count {
        self.count
    }

    /// For the audit: every subscription is on one channel, no channel is empty, and the bytes of their names.
    pub fn recount(&self) -> Result<(), String> {
        let on_channels: usize = self.channels.iter().map(|(_, channel)| channel.subscribers.len()).sum();
        let empty = self.channels.iter().any(|(_, channel)| channel.is_deserted());
        if on_channels != self.len() || empty || self.index.len() != self.channels.len() {
            return Err(format!("hub: {on_channels} of {} subscriptions on channels", self.len()));
        }
        let name_bytes: usize = self.channels.iter().map(|(_, channel)| channel.name_bytes()).sum();
        if name_bytes != self.name_bytes {
            return Err(format!("hub: {name_bytes} bytes of names, {} counted", self.name_bytes));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(slot: u32) -> Token {
        Token { slot, generation: 1 }
    }

    fn watchers(hub: &Hub, router: &str, topic: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        hub.watchers(router, topic, &mut tokens);
        let mut slots: Vec<u32> = tokens.iter().map(|token| token.slot).collect();
        slots.sort();
        slots
    }

    #[test]
    fn names_and_stars() {
        let (mut hub, mut lists) = (Hub::default(), [OfClient::default(); 5]);
        let wanted = [
            (Some("a"), Some("t")),
            (Some("a"), None),
            (None, Some("t")),
            (None, None),
            (None, Some(crate::id::PRESENCE)),
        ];
        for (slot, (router, topic)) in wanted.into_iter().enumerate() {
            hub.subscribe(client(slot as u32), 1, router, topic, 0, &mut lists[slot]);
        }
        assert_eq!(watchers(&hub, "a", "t"), [0, 1, 2, 3]);
        assert_eq!(watchers(&hub, "b", "t"), [2, 3]);
        assert_eq!(watchers(&hub, "a", "u"), [1, 3]);
        assert_eq!(watchers(&hub, "a", crate::id::PRESENCE), [4]);
        hub.recount().unwrap();
    }

    #[test]
    fn a_channel_goes_with_its_last_subscription() {
        let (mut hub, mut list) = (Hub::default(), OfClient::default());
        for number in 0..100 {
            hub.subscribe(client(1), number, Some("a"), Some(&format!("t{}", number / 2)), 0, &mut list);
        }
        hub.recount().unwrap();
        for number in 0..100 {
            let key = hub.numbered(&list, number).unwrap();
            hub.unsubscribe(key, &mut list);
            hub.recount().unwrap();
        }
        assert!(hub.is_empty() && hub.channels.is_empty() && watchers(&hub, "a", "t1").is_empty());
        assert_eq!(hub.count(), Count { opened: 100, unbound: 100 });
    }

    #[test]
    fn an_event_is_wanted_by_who_had_subscribed_before() {
        let (mut hub, mut list) = (Hub::default(), OfClient::default());
        let first = hub.subscribe(client(1), 1, Some("a"), None, 9, &mut list);
        hub.go_on(first, 5);
        hub.subscribe(client(1), 2, Some("b"), Some("t"), 7, &mut list);
        let wants = |router, topic, number| hub.wants(&list, router, topic, number);
        assert!(!wants("a", "t", 5) && wants("a", "t", 6));
        assert!(!wants("b", "t", 7) && wants("b", "t", 8) && !wants("b", "u", 8));
    }

    #[test]
    fn a_later_subscription_knows_what_an_earlier_one_brings() {
        let (mut hub, mut list) = (Hub::default(), OfClient::default());
        let first = hub.subscribe(client(1), 1, Some("a"), None, 0, &mut list);
        let second = hub.subscribe(client(1), 2, None, Some("t"), 0, &mut list);
        let covered = |hub: &Hub, key, router, last| hub.is_covered(&list, key, router, "t", last);
        assert!(
            covered(&hub, second, "a", 0) && !covered(&hub, second, "b", 0) && !covered(&hub, first, "a", 0)
        );
        assert!(covered(&hub, first, "a", 1), "it has come live");
        // One that went on behind an event brings none of the values from before.
        hub.go_on(first, 7);
        assert!(!covered(&hub, second, "a", 0) && covered(&hub, second, "b", 1));
    }
}
