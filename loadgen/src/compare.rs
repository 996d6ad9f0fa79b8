//! `loadgen compare`: the daemon's CPU time for a round trip, or for an event, against the bare one's. Both do the same
//! number of them, in turn, driven by the same clients; the ratio is the median of the pairs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::compare_clients::{Client, World, canned_answer, canned_event};
use crate::daemon::Process;
use crate::frame::Commands;
use crate::options::Options;
use crate::proc;
use crate::random::Random;
use crate::reactor::Reactor;
use crate::run::raise_descriptor_limit;

/// A measurement that makes no progress for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Before the measurement, so that buffers, caches and branch predictors are warm: a share of the whole.
const WARM_UP: u64 = 10;
/// Connects a second: slow enough for any backlog.
const RAMP: u64 = 2000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Contest {
    /// HTTP caller → router → HTTP caller.
    Relay,
    /// One event → all watchers.
    Fanout,
}

/// CPU time of one round trip, or of one event, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    pub bare_ns: f64,
    pub daemon_ns: f64,
}

pub struct Outcome {
    pub contest: Contest,
    /// Callers or watchers.
    pub peers: usize,
    pub count: u64,
    pub bytes: usize,
    pub pairs: Vec<Pair>,
}

/// Runs the pairs.
///
/// # Errors
/// A process that does not start, or a measurement that stops halfway.
pub fn compare(contest: Contest, options: &Options) -> Result<Outcome, String> {
    let (peers, default_count) = match contest {
        Contest::Relay => (options.callers.max(1), 100_000),
        Contest::Fanout => (options.watchers.max(1), 1000),
    };
    let count = options.count.unwrap_or(default_count).max(1);
    raise_descriptor_limit(peers * 2)?;
    let daemon = options.daemon.as_deref().ok_or("compare needs --daemon")?;
    let baseline = match &options.baseline {
        Some(path) => path.clone(),
        None => beside_this_program("baseline")?,
    };
    let mut outcome = Outcome { contest, peers, count, bytes: options.bytes, pairs: Vec::new() };
    for number in 1..=options.pairs {
        let bare_ns = outcome.measure_bare(&baseline)?;
        let daemon_ns = outcome.measure_daemon(daemon, options)?;
        eprintln!(
            "pair {number}: bare {:.2} µs, daemon {:.2} µs, ratio {:.3}",
            bare_ns / 1e3,
            daemon_ns / 1e3,
            daemon_ns / bare_ns
        );
        outcome.pairs.push(Pair { bare_ns, daemon_ns });
    }
    Ok(outcome)
}

fn beside_this_program(name: &str) -> Result<PathBuf, String> {
    let me = std::env::current_exe().map_err(|e| e.to_string())?;
    Ok(me.with_file_name(name))
}

impl Outcome {
    fn world(&self, host: String) -> World {
        // JSON, so that the daemon can pass it on as an event's body.
        let payload = format!("\"{}\"", "x".repeat(self.bytes.saturating_sub(2))).into_bytes();
        let canned = match self.contest {
            Contest::Relay => canned_answer(&payload),
            Contest::Fanout => canned_event(&payload),
        };
        World {
            host,
            payload,
            canned,
            ready: 0,
            to_begin: 0,
            done: 0,
            waiting: 0,
            random: Random::new(1),
            failed: None,
        }
    }

    /// CPU time of the bare program for one round trip or event, in nanoseconds.
    ///
    /// # Errors
    /// It does not start, or stops halfway.
    pub fn measure_bare(&self, program: &Path) -> Result<f64, String> {
        let mode = if self.contest == Contest::Relay { "relay" } else { "fanout" };
        let process = Process::start(program, &[mode, &self.peers.to_string()], None)?;
        let (near, far) = (process.address("in")?, process.address("out")?);
        let mut reactor = Reactor::new().map_err(|e| e.to_string())?;
        for number in 0..self.peers {
            let client = match self.contest {
                Contest::Relay => Client::BareRouter { number, request_len: 0, received: 0 },
                Contest::Fanout => Client::BareWatcher { received: 0 },
            };
            reactor.add(client, far, number as u64 * 1_000_000_000 / RAMP);
        }
        let behind = (self.peers as u64 + 1) * 1_000_000_000 / RAMP;
        match self.contest {
            Contest::Relay => self.add_callers(&mut reactor, near, behind),
            Contest::Fanout => reactor.add(Client::BareSource, near, behind),
        }
        self.measure(reactor, self.world(near.to_string()), process.pid())
    }

    fn measure_daemon(&self, program: &Path, options: &Options) -> Result<f64, String> {
        let process =
            Process::start_daemon(program, options.config.as_deref(), options.daemon_log.as_deref())?;
        let addresses = process.addresses()?;
        let mut reactor = Reactor::new().map_err(|e| e.to_string())?;
        let routers = if self.contest == Contest::Relay { self.peers } else { 1 };
        let behind = (self.peers as u64 + 1) * 1_000_000_000 / RAMP;
        let add_routers = |reactor: &mut Reactor<Client>, from: u64| {
            for number in 0..routers {
                let at = from + number as u64 * 1_000_000_000 / RAMP;
                reactor.add(Client::Router { number, commands: Commands::default() }, addresses.router, at);
            }
        };
        // The source is the last client in either contest.
        let host = match self.contest {
            Contest::Relay => {
                add_routers(&mut reactor, 0);
                self.add_callers(&mut reactor, addresses.http, behind);
                addresses.http
            }
            Contest::Fanout => {
                for number in 0..self.peers {
                    let at = number as u64 * 1_000_000_000 / RAMP;
                    reactor.add(Client::Watcher { upgraded: false, subscribed: false }, addresses.app, at);
                }
                add_routers(&mut reactor, behind);
                addresses.app
            }
        };
        self.measure(reactor, self.world(host.to_string()), process.pid())
    }

    fn add_callers(&self, reactor: &mut Reactor<Client>, address: std::net::SocketAddr, from: u64) {
        for number in 0..self.peers {
            let caller = Client::Caller { request: Vec::new(), number, answer_len: 0, received: 0 };
            reactor.add(caller, address, from + number as u64 * 1_000_000_000 / RAMP);
        }
    }

    /// CPU time of `pid` for each round trip or event, after a warm-up.
    fn measure(&self, mut reactor: Reactor<Client>, mut world: World, pid: u32) -> Result<f64, String> {
        let clients = reactor.clients().count();
        drive(&mut reactor, &mut world, |world| world.ready == clients)?;
        self.work(&mut reactor, &mut world, (self.count / WARM_UP).max(1))?;
        let before = proc::cpu_ns(pid).map_err(|e| e.to_string())?;
        self.work(&mut reactor, &mut world, self.count)?;
        let after = proc::cpu_ns(pid).map_err(|e| e.to_string())?;
        Ok((after - before) as f64 / self.count as f64)
    }

    fn work(&self, reactor: &mut Reactor<Client>, world: &mut World, count: u64) -> Result<(), String> {
        match self.contest {
            Contest::Relay => {
                (world.to_begin, world.done) = (count, 0);
                reactor.each(world, |client, world, link| {
                    if let Client::Caller { .. } = client {
                        client.go(world, link);
                    }
                });
                drive(reactor, world, |world| world.done == count)
            }
            Contest::Fanout => {
                let source = reactor.clients().count() - 1;
                for _ in 0..count {
                    // The next event when all have had this one: each is written alone, by the daemon and by the bare one.
                    world.waiting = self.peers;
                    reactor.visit(world, source, |client, world, link| client.go(world, link));
                    drive(reactor, world, |world| world.waiting == 0)?;
                }
                Ok(())
            }
        }
    }

    /// The median of the pairs' ratios: the daemon's time by the bare one's.
    pub fn ratio(&self) -> f64 {
        median(self.pairs.iter().map(|pair| pair.daemon_ns / pair.bare_ns))
    }

    pub fn json(&self) -> Value {
        let pairs: Vec<Value> = self
            .pairs
            .iter()
            .map(|pair| json!({"bare_ns": pair.bare_ns, "daemon_ns": pair.daemon_ns}))
            .collect();
        json!({
            "contest": if self.contest == Contest::Relay { "relay" } else { "fanout" },
            "peers": self.peers, "count": self.count, "bytes": self.bytes, "pairs": pairs, "ratio": self.ratio(),
        })
    }

    pub fn text(&self) -> String {
        let (what, who) = match self.contest {
            Contest::Relay => ("round trip", "callers"),
            Contest::Fanout => ("event", "watchers"),
        };
        format!(
            "{} {who}, {} {what}s of {} bytes, {} pairs\nbare    {:.2} µs of CPU time for each\ndaemon  {:.2} µs\nratio   {:.3} (median of the pairs)\n",
            self.peers,
            self.count,
            self.bytes,
            self.pairs.len(),
            median(self.pairs.iter().map(|pair| pair.bare_ns)) / 1e3,
            median(self.pairs.iter().map(|pair| pair.daemon_ns)) / 1e3,
            self.ratio()
        )
    }
}

/// Turns the loop until `done`.
fn drive(
    reactor: &mut Reactor<Client>,
    world: &mut World,
    done: impl Fn(&World) -> bool,
) -> Result<(), String> {
    let progress = |world: &World| (world.ready, world.done, world.waiting);
    let (mut last, mut since) = (progress(world), Instant::now());
    while !done(world) {
        reactor.turn(world, Duration::from_millis(100)).map_err(|e| e.to_string())?;
        if let Some(failed) = &world.failed {
            return Err(failed.clone());
        }
        if progress(world) != last {
            (last, since) = (progress(world), Instant::now());
        } else if since.elapsed() > PATIENCE {
            return Err(format!("no progress: ready, done and waiting stay {last:?}"));
        }
    }
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_pairs() {
        let pair = |daemon_ns| Pair { bare_ns: 100.0, daemon_ns };
        let pairs = vec![pair(150.0), pair(900.0), pair(120.0)];
        let outcome = Outcome { contest: Contest::Relay, peers: 1, count: 1, bytes: 0, pairs };
        assert_eq!(outcome.ratio(), 1.5);
        assert_eq!(outcome.json()["ratio"], 1.5);
    }
}
