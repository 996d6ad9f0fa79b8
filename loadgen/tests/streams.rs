//! Routers and consumers of streams against a gateway that is right, and against one that is not: each fault is seen.

mod gateway;

use std::time::{Duration, Instant};

use gateway::{Gateway, Plant};
use loadgen::options::Addresses;
use loadgen::reactor::Reactor;
use loadgen::scenario::client::Client;
use loadgen::scenario::consumer::Consumer;
use loadgen::scenario::job::Faults;
use loadgen::scenario::pace::Pace;
use loadgen::scenario::router::Router;
use loadgen::scenario::streams::Plan;
use loadgen::scenario::world::World;

/// Plays `plan` until every consumer is done or something is wrong.
fn play(plan: &Plan, plant: Plant) -> World {
    let gateway = Gateway::start(plant);
    let addresses = Addresses { router: gateway.router, http: gateway.http, ..Addresses::default() };
    let mut world = World::new(3, addresses, plan.routers);
    let mut reactor = Reactor::new().unwrap();
    for index in 0..plan.routers {
        reactor.add(Client::Router(Box::new(Router::new(index as u32))), gateway.router, 0);
    }
    for place in 0..plan.streams() {
        world.jobs.push(plan.job(world.seed, place, place, plan.rows));
        let mut consumer = Consumer::new(place as u32);
        consumer.pace = plan.is_slow(place).then(|| Pace::new(plan.slow_rate));
        reactor.add(Client::Consumer(Box::new(consumer)), gateway.http, 0);
    }
    let until = Instant::now() + Duration::from_secs(30);
    let reads = |client: &Client| matches!(client, Client::Consumer(consumer) if !consumer.is_over());
    while world.errors.total() == 0 && reactor.clients().any(reads) {
        assert!(Instant::now() < until, "not within 30 s");
        reactor.turn(&mut world, Duration::from_millis(10)).unwrap();
    }
    world
}

fn plan() -> Plan {
    Plan {
        routers: 4,
        streams_per_router: 2,
        rows: 700,
        row_bytes: (30, 300),
        slow_rate: 400_000,
        faults: Faults { gap_every: Some(70), reconnect_every: Some(300) },
        ..Plan::default()
    }
}

#[test]
fn every_row_comes_once_in_order_over_gaps_and_reconnects() {
    let world = play(&plan(), Plant::None);
    assert!(world.errors.0.is_empty(), "{:?}", world.errors);
    assert_eq!(world.tally.rows, plan().all_rows());
    let sum = |count: fn(&loadgen::scenario::job::Job) -> u64| world.jobs.iter().map(count).sum::<u64>();
    assert!(sum(|job| job.gaps) >= 60 && sum(|job| job.reconnects) >= 16);
    assert!(sum(|job| job.opens) > sum(|job| job.gaps));
}

fn is_seen(plant: Plant, plan: Plan, expected: &str) {
    let world = play(&plan, plant);
    let seen: Vec<&String> = world.errors.0.keys().collect();
    assert!(seen.iter().any(|kind| *kind == expected), "{plant:?}: {:?}", world.errors);
}

#[test]
fn rows_that_come_wrong_are_seen() {
    let quiet = Plan { faults: Faults::default(), ..plan() };
    for plant in
        [Plant::RowChanged, Plant::RowDoubled, Plant::RowDropped, Plant::LineEndKept, Plant::EndedEarly]
    {
        is_seen(plant, quiet, "consumer_breach");
    }
    is_seen(Plant::CutShort, Plan { rows: 20, ..quiet }, "consumer_closed");
}

#[test]
fn what_routers_must_not_be_told_is_seen() {
    let quiet = Plan { faults: Faults::default(), ..plan() };
    is_seen(Plant::AckOfWhatWasNotSent, quiet, "router_breach");
    is_seen(Plant::OpenedTwice, quiet, "router_breach");
    is_seen(Plant::AskedAgain, plan(), "router_breach");
}
