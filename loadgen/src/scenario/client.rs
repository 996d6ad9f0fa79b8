//! The kinds of client of a scenario, as one type for the reactor.

use std::time::Duration;

use crate::reactor::{self, Ended, Link};

use super::caller::Caller;
use super::consumer::Consumer;
use super::event_stream::EventStream;
use super::fleet_caller::FleetCaller;
use super::publisher::Publisher;
use super::router::Router;
use super::watcher::Watcher;
use super::way::Way;
use super::world::World;

/// What a scenario may do with any of them.
pub trait Actor: reactor::Client<World = World> {
    /// Where it should be: bound, connected, subscribed.
    fn is_settled(&self) -> bool;

    fn is_up(&self) -> bool;

    /// Whether it still waits for an answer.
    fn waits(&self) -> bool {
        false
    }

    /// Leaves in `way` after `delay`.
    fn leave_in(&mut self, link: &mut Link<'_>, delay: Duration, way: Way);

    /// Begins what it is to do: also when that has changed meanwhile.
    fn begin(&mut self, world: &mut World, link: &mut Link<'_>);
}

/// The clients of a scenario.
pub enum Client {
    Router(Box<Router>),
    Caller(Box<Caller>),
    Watcher(Box<Watcher>),
    Consumer(Box<Consumer>),
    FleetCaller(Box<FleetCaller>),
    EventStream(Box<EventStream>),
    Publisher(Box<Publisher>),
}

impl Client {
    fn actor(&self) -> &dyn Actor {
        match self {
            Self::Router(router) => router.as_ref(),
            Self::Caller(caller) => caller.as_ref(),
            Self::Watcher(watcher) => watcher.as_ref(),
            Self::Consumer(consumer) => consumer.as_ref(),
            Self::FleetCaller(caller) => caller.as_ref(),
            Self::EventStream(stream) => stream.as_ref(),
            Self::Publisher(publisher) => publisher.as_ref(),
        }
    }

    fn actor_mut(&mut self) -> &mut dyn Actor {
        match self {
            Self::Router(router) => router.as_mut(),
            Self::Caller(caller) => caller.as_mut(),
            Self::Watcher(watcher) => watcher.as_mut(),
            Self::Consumer(consumer) => consumer.as_mut(),
            Self::FleetCaller(caller) => caller.as_mut(),
            Self::EventStream(stream) => stream.as_mut(),
            Self::Publisher(publisher) => publisher.as_mut(),
        }
    }
}

impl Actor for Client {
    fn is_settled(&self) -> bool {
        self.actor().is_settled()
    }

    fn is_up(&self) -> bool {
        self.actor().is_up()
    }

    fn waits(&self) -> bool {
        self.actor().waits()
    }

    fn leave_in(&mut self, link: &mut Link<'_>, delay: Duration, way: Way) {
        self.actor_mut().leave_in(link, delay, way);
    }

    fn begin(&mut self, world: &mut World, link: &mut Link<'_>) {
        self.actor_mut().begin(world, link);
    }
}

impl reactor::Client for Client {
    type World = World;

    fn connected(&mut self, world: &mut World, link: &mut Link<'_>) {
        self.actor_mut().connected(world, link);
    }

    fn received(&mut self, world: &mut World, link: &mut Link<'_>, bytes: &[u8]) -> Result<usize, String> {
        self.actor_mut().received(world, link, bytes)
    }

    fn timer(&mut self, world: &mut World, link: &mut Link<'_>, timer: u8) {
        self.actor_mut().timer(world, link, timer);
    }

    fn drained(&mut self, world: &mut World, link: &mut Link<'_>) {
        self.actor_mut().drained(world, link);
    }

    fn ended(&mut self, world: &mut World, link: &mut Link<'_>, why: Ended) {
        self.actor_mut().ended(world, link, why);
    }
}
