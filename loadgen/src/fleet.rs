//! `loadgen fleet`: simulated routers that stay up, for someone who tries the daemon out.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::options::Options;
use crate::reactor::Reactor;
use crate::router::{Duty, Router};
use crate::run::{raise_descriptor_limit, stop_flag};
use crate::world::{Phase, World};

/// Keeps the fleet up until SIGINT or SIGTERM.
///
/// # Errors
/// What keeps it from starting.
pub fn fleet(options: Options) -> Result<(), String> {
    raise_descriptor_limit(options.routers)?;
    keep_up(options).map_err(|e| e.to_string())
}

fn keep_up(options: Options) -> io::Result<()> {
    let stop = stop_flag()?;
    let mut reactor = Reactor::new()?;
    for index in 0..options.routers {
        let router = Client::Router(Box::new(Router::new(index as u32, Duty::Fleet)));
        reactor.add(router, options.addresses.router, (index as f64 * 1e9 / options.ramp) as u64);
    }
    let mut world = World::new(options);
    let (mut shown, mut last) = (usize::MAX, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        reactor.turn(&mut world, Duration::from_millis(500))?;
        let up = world.stats.up.routers;
        if up != shown && (last.elapsed() > Duration::from_secs(1) || up == world.routers.len()) {
            eprintln!("fleet: {up} of {} routers up", world.routers.len());
            (shown, last) = (up, Instant::now());
        }
    }
    world.phase = Phase::Close;
    reactor.each(&mut world, |client, world, link| client.close(world, link));
    let until = Instant::now() + Duration::from_secs(2);
    while reactor.open() > 0 && Instant::now() < until {
        reactor.turn(&mut world, Duration::from_millis(100))?;
    }
    Ok(())
}
