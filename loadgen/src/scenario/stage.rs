//! Where a scenario is played: a daemon of its own, the clients, and an observer that looks at the daemon all the time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::daemon::Process;
use crate::observer::{Look, Observer, Target};
use crate::reactor::{Link, Reactor};
use crate::route::Route;
use crate::series::{Finding, Sample};
use crate::watcher::Kind;

use super::caller::Caller;
use super::client::{Actor, Client};
use super::router::Router;
use super::watcher::Watcher;
use super::way::Way;
use super::world::{Calls, World};

type OnSample = Box<dyn FnMut(&Sample)>;

/// How to set a stage.
pub struct Setting {
    pub program: PathBuf,
    /// TOML in dotted keys, without the four `bind`s.
    pub config: String,
    pub daemon_log: Option<PathBuf>,
    /// The fault that the daemon is told to have (`BERTH_PLANT`).
    pub plant: Option<String>,
    pub seed: u64,
    pub routers: usize,
    pub sample_every: Duration,
    /// How long the allocator has to come to rest before what is resident is taken as the state to come back to.
    pub rest: Duration,
    /// Called with every sample as it is made.
    pub on_sample: Option<OnSample>,
    pub stop: Arc<AtomicBool>,
}

pub struct Stage {
    pub world: World,
    pub reactor: Reactor<Client>,
    /// Addresses of the router listeners: 127.0.0.1 first, then ::1 and IPv4-mapped where the host has IPv6.
    pub router_addresses: Vec<std::net::SocketAddr>,
    pub samples: Vec<Sample>,
    pub findings: Vec<Finding>,
    pub notes: Vec<String>,
    /// What was wrong in looks, by kind: how often, and the first.
    pub look_faults: BTreeMap<String, (u64, String)>,
    pub looks: u64,
    pub peak_rss: u64,
    /// Between two turns of our own loop, at most: no heartbeat is answered meanwhile.
    pub longest_turn: Duration,
    turned_at: Instant,
    /// The daemon's longest turn, by its census.
    pub daemon_longest_ms: f64,
    observer: Observer,
    pub(super) rest: Duration,
    daemon: Process,
    asked: Option<Look>,
    on_sample: Option<OnSample>,
    stop: Arc<AtomicBool>,
    next_number: u32,
}

/// Enough for the allocator to come to rest.
pub const REST: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(20);
/// Between two looks while something is waited for.
const LOOK_PACE: Duration = Duration::from_millis(250);
/// A look that takes longer means that the daemon does not answer.
const LOOK_PATIENCE: Duration = Duration::from_secs(30);

impl Stage {
    /// Starts the daemon and the observer.
    ///
    /// # Errors
    /// The daemon does not start.
    pub fn set(setting: Setting) -> Result<Self, String> {
        let log = setting.daemon_log.as_deref();
        let plant = setting.plant.as_deref().map(|fault| ("BERTH_PLANT", fault));
        let daemon = start(&setting.program, &setting.config, log, plant.as_slice())?;
        let addresses = daemon.addresses()?;
        let mut listeners = Vec::new();
        for listener in ["router", "http", "app", "page"] {
            listeners.extend(daemon.listeners(listener)?);
        }
        let target = Target { pid: daemon.pid(), http: addresses.http, listeners, began: Instant::now() };
        Ok(Self {
            router_addresses: daemon.listeners("router")?,
            world: World::new(setting.seed, addresses, setting.routers),
            reactor: Reactor::new().map_err(|e| e.to_string())?,
            samples: Vec::new(),
            findings: Vec::new(),
            notes: Vec::new(),
            look_faults: BTreeMap::new(),
            looks: 0,
            peak_rss: 0,
            longest_turn: Duration::ZERO,
            turned_at: Instant::now(),
            daemon_longest_ms: 0.0,
            observer: Observer::start(target, setting.sample_every),
            rest: setting.rest,
            daemon,
            asked: None,
            on_sample: setting.on_sample,
            stop: setting.stop,
            next_number: 0,
        })
    }

    /// Names what goes on from now on, in samples and on stderr.
    pub fn phase(&mut self, name: &str) {
        self.observer.phase(name);
        eprintln!("  {name}");
    }

    /// One turn of the loop; looks that have been made meanwhile are kept.
    ///
    /// # Errors
    /// The daemon has ended, epoll failed, or the user wants to stop.
    pub fn turn(&mut self) -> Result<(), String> {
        self.reactor.turn(&mut self.world, TICK).map_err(|e| e.to_string())?;
        self.longest_turn = self.longest_turn.max(self.turned_at.elapsed());
        self.turned_at = Instant::now();
        while let Some(look) = self.observer.next() {
            self.seen(look);
        }
        if let Some(status) = self.daemon.exited() {
            return Err(format!("the daemon ended: {status}"));
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err("stopped by a signal".into());
        }
        Ok(())
    }

    fn seen(&mut self, look: Look) {
        self.looks += 1;
        self.peak_rss = self.peak_rss.max(look.peak_rss);
        for fault in &look.faults {
            let kind = fault.split(':').next().unwrap_or(fault).to_string();
            self.look_faults.entry(kind).or_insert_with(|| (0, fault.clone())).0 += 1;
        }
        if let Some(on_sample) = &mut self.on_sample {
            on_sample(&look.sample);
        }
        let longest = look.census.pointer("/loop/longest_ms").and_then(serde_json::Value::as_f64);
        self.daemon_longest_ms = self.daemon_longest_ms.max(longest.unwrap_or(0.0));
        self.samples.push(look.sample.clone());
        if look.asked {
            self.asked = Some(look);
        }
    }

    /// # Errors
    /// As [`Self::turn`].
    pub fn run_for(&mut self, duration: Duration) -> Result<(), String> {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            self.turn()?;
        }
        Ok(())
    }

    /// Turns until `done`, at most for `patience`. Returns whether it was done.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub fn run_until(&mut self, patience: Duration, done: impl Fn(&Self) -> bool) -> Result<bool, String> {
        let until = Instant::now() + patience;
        while !done(self) {
            if Instant::now() > until {
                return Ok(false);
            }
            self.turn()?;
        }
        Ok(true)
    }

    /// Looks now, with an audit.
    ///
    /// # Errors
    /// As [`Self::turn`]; the daemon does not answer.
    pub fn look(&mut self) -> Result<Look, String> {
        self.asked = None;
        self.observer.ask();
        let came = self.run_until(LOOK_PATIENCE, |stage| stage.asked.is_some())?;
        let look = self.asked.take().filter(|_| came).ok_or("the daemon gave no census")?;
        if look.census.is_null() {
            return Err(look.faults.join("; "));
        }
        Ok(look)
    }

    /// Looks again and again until `good`, at most for `patience`; the last look in any case.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub fn look_until(&mut self, patience: Duration, good: impl Fn(&Look) -> bool) -> Result<Look, String> {
        let until = Instant::now() + patience;
        loop {
            let look = self.look()?;
            if good(&look) || Instant::now() > until {
                return Ok(look);
            }
            self.run_for(LOOK_PACE)?;
        }
    }

    // --- Clients ---------------------------------------------------------------------------------------------------

    /// Adds one router for each of `routers`, not connected yet. Returns their slots.
    pub fn add_routers(&mut self, routers: Range<u32>, with: impl Fn(&mut Router)) -> Range<usize> {
        let address = self.router_addresses[0];
        let from = self.reactor.len();
        for index in routers {
            let mut router = Router::new(index);
            with(&mut router);
            self.reactor.add_idle(Client::Router(Box::new(router)), address);
        }
        from..self.reactor.len()
    }

    pub fn add_callers(&mut self, count: usize, calls: Calls) -> Range<usize> {
        let (address, from) = (self.world.http(), self.reactor.len());
        for _ in 0..count {
            let caller = Caller::new(self.number(), calls);
            self.reactor.add_idle(Client::Caller(Box::new(caller)), address);
        }
        from..self.reactor.len()
    }

    /// Watchers of all routers, or of one each if `one`: they take turns.
    pub fn add_watchers(
        &mut self,
        kind: Kind,
        count: usize,
        one: bool,
        calls: Option<Calls>,
    ) -> Range<usize> {
        let address = if kind == Kind::App { self.world.addresses.app } else { self.world.addresses.page };
        let from = self.reactor.len();
        for place in 0..count {
            let router = one.then(|| (place % self.world.routers.len()) as u32);
            let watcher = Watcher::new(kind, self.number(), router, calls);
            self.reactor.add_idle(Client::Watcher(Box::new(watcher)), address);
        }
        from..self.reactor.len()
    }

    fn number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    /// Those of `slots` that are away connect, spread over `spread`.
    pub fn arrive(&mut self, slots: Range<usize>, spread: Duration) {
        for slot in slots {
            self.reactor.visit(&mut self.world, slot, |client, world, link| {
                if !client.is_up() {
                    link.connect_at(link.now + part_of(spread, world.random.fraction()));
                }
            });
        }
    }

    /// `slots` leave, spread over `spread`, each in one of `ways`; those that were about to come stay away.
    pub fn leave(&mut self, slots: Range<usize>, spread: Duration, ways: &[Way]) {
        for slot in slots {
            self.reactor.give_up(slot);
            self.reactor.visit(&mut self.world, slot, |client, world, link| {
                let way = ways[world.random.below(ways.len() as u64) as usize];
                let delay = Duration::from_nanos(part_of(spread, world.random.fraction()));
                client.leave_in(link, delay, way);
            });
        }
    }

    /// Changes what the clients in `slots` do.
    pub fn change(&mut self, slots: Range<usize>, change: impl Fn(&mut Client)) {
        for slot in slots {
            self.reactor.visit(&mut self.world, slot, |client, world, link| {
                change(client);
                client.begin(world, link);
            });
        }
    }

    pub fn visit(&mut self, slot: usize, visit: impl FnOnce(&mut Client, &mut World, &mut Link<'_>)) {
        self.reactor.visit(&mut self.world, slot, visit);
    }

    /// Waits until all of `slots` are bound, connected or subscribed.
    ///
    /// # Errors
    /// They are not, within `patience`; and as [`Self::turn`].
    pub fn await_settled(&mut self, slots: Range<usize>, patience: Duration) -> Result<(), String> {
        let wanted = slots.len();
        let settled = |stage: &Self| {
            let clients = stage.reactor.clients().skip(slots.start).take(wanted);
            clients.filter(|client| client.is_settled()).count()
        };
        if self.run_until(patience, |stage| settled(stage) == wanted)? {
            return Ok(());
        }
        let came = settled(self);
        Err(format!("only {came} of {wanted} clients were there after {patience:?}"))
    }

    /// For `duration` about `share` of the clients in `slots` leave each second, in one of `ways`, and others come back
    /// about two seconds after they have gone.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub fn churn(
        &mut self,
        slots: Range<usize>,
        duration: Duration,
        share: f64,
        ways: &[Way],
    ) -> Result<(), String> {
        const STEP: Duration = Duration::from_millis(200);
        let until = Instant::now() + duration;
        while Instant::now() < until {
            self.run_for(STEP)?;
            for slot in slots.clone() {
                let (world, chance) = (&mut self.world, share * STEP.as_secs_f64());
                let (goes, comes) =
                    (world.random.chance(chance), world.random.chance(STEP.as_secs_f64() / 2.0));
                self.reactor.visit(world, slot, |client, world, link| {
                    if !client.is_up() && comes {
                        link.connect_at(link.now);
                    } else if client.is_settled() && goes {
                        let way = ways[world.random.below(ways.len() as u64) as usize];
                        client.leave_in(link, Duration::ZERO, way);
                    }
                });
            }
        }
        Ok(())
    }

    /// Nothing new; waits until what is outstanding is answered.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub fn hush(&mut self, patience: Duration) -> Result<(), String> {
        self.world.quiet = true;
        let silent = self.run_until(patience, |stage| !stage.reactor.clients().any(Actor::waits))?;
        if !silent {
            self.world.errors.add("no_answer", format!("commands without an answer after {patience:?}"));
        }
        Ok(())
    }

    /// All finish what they wait for and leave, spread over `spread`, each in one of `ways`; the frozen are let go of when
    /// `frozen_for` is over. Who is still there then goes with FIN.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub fn everyone_leaves(
        &mut self,
        spread: Duration,
        ways: &[Way],
        frozen_for: Duration,
    ) -> Result<(), String> {
        self.hush(Duration::from_secs(15))?;
        let gone = |stage: &Self| stage.reactor.open() == 0;
        self.leave(0..self.reactor.len(), spread, ways);
        if self.run_until(spread + frozen_for + Duration::from_secs(10), gone)? {
            return Ok(());
        }
        self.leave(0..self.reactor.len(), Duration::ZERO, &[Way::Fin]);
        if !self.run_until(Duration::from_secs(10), gone)? {
            let open = self.reactor.open() as u64;
            self.world.errors.add_many("not_closed", open, "the daemon did not answer our FIN with its own");
        }
        Ok(())
    }

    /// One of two clients that are the same router takes over from the other: whoever of the two is away comes, by `route`.
    pub fn take_over(&mut self, first: usize, second: usize, route: Route) {
        let mut first_is_up = false;
        self.visit(first, |client, _, _| first_is_up = client.is_up());
        self.visit(if first_is_up { second } else { first }, |client, _, link| {
            if !client.is_up() {
                link.set_route(route);
                link.connect_at(link.now);
            }
        });
    }

    pub fn finding(&mut self, what: &str, figure: impl Into<String>, bound: impl Into<String>, passed: bool) {
        let (figure, bound) = (figure.into(), bound.into());
        let mark = if passed { "ok  " } else { "FAIL" };
        eprintln!("    {mark} {what}: {figure} ({bound})");
        self.findings.push(Finding { what: what.to_string(), figure, bound, passed });
    }

    /// Ends the daemon by SIGTERM; the finding is how that went.
    pub fn close(self) -> Finding {
        let Self { observer, daemon, reactor, .. } = self;
        drop((observer, reactor));
        let exit = daemon.stop(Duration::from_secs(20));
        Finding {
            what: "the daemon drains and exits".into(),
            figure: exit.as_ref().map_or_else(String::clone, |status| status.to_string()),
            bound: "exit status: 0".into(),
            passed: exit.is_ok_and(|status| status.success()),
        }
    }
}

fn part_of(spread: Duration, fraction: f64) -> u64 {
    (spread.as_nanos() as f64 * fraction) as u64
}

/// Starts the daemon with IPv6 loopback and an IPv4-mapped address beside 127.0.0.1, if the host has them.
fn start(
    program: &Path,
    config: &str,
    log: Option<&Path>,
    environment: &[(&str, &str)],
) -> Result<Process, String> {
    let with_binds = |routers: &str| {
        let others = ["http", "websocket.app", "websocket.page"]
            .map(|listener| format!("{listener}.bind = \"127.0.0.1:0\"\n"));
        format!("router.bind = [{routers}]\n{}{config}", others.concat())
    };
    let all = with_binds(r#""127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0""#);
    Process::start_configured(program, &all, log, environment)
        .or_else(|_| Process::start_configured(program, &with_binds("\"127.0.0.1:0\""), log, environment))
}
