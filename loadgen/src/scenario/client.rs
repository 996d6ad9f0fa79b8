//! The three kinds of client of a scenario, as one type.

use std::time::Duration;

use crate::client::AnyClient;
use crate::reactor::Link;

use super::caller::Caller;
use super::router::Router;
use super::watcher::Watcher;
use super::way::Way;
use super::world::World;

/// The clients of a scenario.
pub type Client = AnyClient<Router, Caller, Watcher>;

impl Client {
    /// Where it should be: bound, connected, subscribed.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Router(router) => router.is_bound(),
            Self::Caller(caller) => caller.is_up(),
            Self::Watcher(watcher) => watcher.is_watching(),
        }
    }

    pub fn is_up(&self) -> bool {
        match self {
            Self::Router(router) => router.is_up(),
            Self::Caller(caller) => caller.is_up(),
            Self::Watcher(watcher) => watcher.is_up(),
        }
    }

    /// Whether it still waits for an answer.
    pub fn waits(&self) -> bool {
        match self {
            Self::Router(_) => false,
            Self::Caller(caller) => caller.waits(),
            Self::Watcher(watcher) => watcher.waits(),
        }
    }

    pub fn leave_in(&mut self, link: &mut Link<'_>, delay: Duration, way: Way) {
        match self {
            Self::Router(router) => router.leave_in(link, delay, way),
            Self::Caller(caller) => caller.leave_in(link, delay, way),
            Self::Watcher(watcher) => watcher.leave_in(link, delay, way),
        }
    }

    /// Begins what it is to do, after that has changed.
    pub fn begin(&mut self, world: &mut World, link: &mut Link<'_>) {
        match self {
            Self::Router(router) => router.begin(world, link),
            Self::Caller(caller) => caller.begin(world, link),
            Self::Watcher(watcher) => watcher.begin(world, link),
        }
    }
}
