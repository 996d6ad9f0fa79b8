//! The three kinds of client, as one type for the reactor.

use crate::caller::Caller;
use crate::reactor::{self, Ended, Link};
use crate::router::Router;
use crate::watcher::Watcher;
use crate::world::World;

/// The clients of a run.
pub enum Client {
    Router(Box<Router>),
    Caller(Box<Caller>),
    Watcher(Box<Watcher>),
}

impl Client {
    /// The load begins. Routers have begun when they were bound.
    pub fn start(&mut self, world: &mut World, link: &mut Link<'_>) {
        match self {
            Self::Router(_) => {}
            Self::Caller(caller) => caller.start(world, link),
            Self::Watcher(watcher) => watcher.start(world, link),
        }
    }

    /// Good-bye, and FIN.
    pub fn close(&mut self, world: &mut World, link: &mut Link<'_>) {
        match self {
            Self::Router(router) => router.close(link),
            Self::Caller(caller) => caller.close(link),
            Self::Watcher(watcher) => watcher.close(world, link),
        }
    }
}

impl reactor::Client for Client {
    type World = World;

    fn connected(&mut self, world: &mut World, link: &mut Link<'_>) {
        match self {
            Self::Router(router) => router.connected(world, link),
            Self::Caller(caller) => caller.connected(world, link),
            Self::Watcher(watcher) => watcher.connected(world, link),
        }
    }

    fn received(&mut self, world: &mut World, link: &mut Link<'_>, bytes: &[u8]) -> Result<usize, String> {
        match self {
            Self::Router(router) => router.received(world, link, bytes),
            Self::Caller(caller) => caller.received(world, link, bytes),
            Self::Watcher(watcher) => watcher.received(world, link, bytes),
        }
    }

    fn timer(&mut self, world: &mut World, link: &mut Link<'_>, timer: u8) {
        match self {
            Self::Router(router) => router.timer(world, link, timer),
            Self::Caller(caller) => caller.timer(world, link, timer),
            Self::Watcher(watcher) => watcher.timer(world, link, timer),
        }
    }

    fn drained(&mut self, world: &mut World, link: &mut Link<'_>) {
        match self {
            Self::Router(router) => router.drained(world, link),
            Self::Caller(caller) => caller.drained(world, link),
            Self::Watcher(watcher) => watcher.drained(world, link),
        }
    }

    fn ended(&mut self, world: &mut World, link: &mut Link<'_>, why: Ended) {
        match self {
            Self::Router(router) => router.ended(world, link, why),
            Self::Caller(caller) => caller.ended(world, link, why),
            Self::Watcher(watcher) => watcher.ended(world, link, why),
        }
    }
}
