//! `loadgen run`: connect everyone, load, drain, compare with the kernel and the census, say good-bye, report.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::caller::Caller;
use crate::census::{self, Api, CONNECTIONS};
use crate::client::Client;
use crate::daemon::Process;
use crate::options::{Options, Watch};
use crate::proc;
use crate::reactor::Reactor;
use crate::report::{Moment, Report, mebibytes};
use crate::router::{Duty, Router};
use crate::stats::{Counters, Up};
use crate::watcher::{Kind, Watcher};
use crate::world::{Phase, World};

/// Beyond the time that the ramp needs: when not all are up then, that is an error.
const RAMP_PATIENCE: Duration = Duration::from_secs(30);
/// For connections to be closed by the daemon, and for its census and memory to come back.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at the census, while waiting for it: `/proc/net/tcp` is slow to read.
const CENSUS_PACE: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(100);

/// Set by SIGINT and SIGTERM.
///
/// # Errors
/// The handler cannot be installed.
pub fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}

/// Raises the soft descriptor limit to the hard one and checks that `wanted` connections fit.
///
/// # Errors
/// They do not.
pub fn raise_descriptor_limit(wanted: usize) -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|e| format!("descriptor limit: {e}"))?;
    match limit.maximum {
        Some(most) if (wanted + 32) as u64 > most => {
            Err(format!("{wanted} connections do not fit under the descriptor limit of {most}"))
        }
        _ => Ok(()),
    }
}

struct Run {
    world: World,
    reactor: Reactor<Client>,
    pid: Option<u32>,
    wanted: Up,
    report: Report,
    stop: Arc<AtomicBool>,
    last_progress: (Instant, Counters),
}

/// Runs the load and reports.
///
/// # Errors
/// What keeps the run from taking place at all; what goes wrong in it is in the report.
pub fn run(mut options: Options) -> Result<Report, String> {
    let wanted =
        Up { routers: options.routers, callers: options.callers, apps: options.apps, pages: options.pages };
    raise_descriptor_limit(wanted.total())?;
    let stop = stop_flag().map_err(|e| e.to_string())?;
    let daemon = match &options.daemon {
        Some(program) => {
            Some(Process::start_daemon(program, options.config.as_deref(), options.daemon_log.as_deref())?)
        }
        None => None,
    };
    if let Some(daemon) = &daemon {
        options.addresses = daemon.addresses()?;
    }
    let pid = daemon.as_ref().map(Process::pid).or(options.pid);
    let pid = pid.or_else(|| proc::listener_of(options.addresses.router.port()));
    // A daemon inside our own process is a test's: its memory and threads are not a daemon's.
    let pid = pid.filter(|pid| *pid != std::process::id());
    let mut run = Run {
        report: Report { seed: options.seed, wanted, ..Report::default() },
        world: World::new(options),
        reactor: Reactor::new().map_err(|e| e.to_string())?,
        pid,
        wanted,
        stop,
        last_progress: (Instant::now(), Counters::default()),
    };
    run.report.before = run.moment()?;
    run.carry_out().map_err(|e| e.to_string())?;
    if let Some(daemon) = daemon {
        match daemon.stop(CLOSE_PATIENCE * 2) {
            Ok(status) if status.success() => {}
            Ok(status) => run.world.stats.errors.add("daemon_exit", status.to_string()),
            Err(error) => run.world.stats.errors.add("daemon_exit", error),
        }
    }
    run.report.stats = run.world.stats;
    Ok(run.report)
}

impl Run {
    fn carry_out(&mut self) -> io::Result<()> {
        let began = Instant::now();
        self.add_clients();
        self.ramp()?;
        self.report.ramp_s = began.elapsed().as_secs_f64();
        self.load()?;
        self.drain()?;
        self.report.during = self.compared_moment();
        self.close()?;
        self.report.after = self.settled_moment();
        Ok(())
    }

    fn add_clients(&mut self) {
        let options = &self.world.options;
        let (addresses, routers) = (options.addresses.clone(), options.routers);
        let (gap, now) = (1e9 / options.ramp, self.reactor.now());
        let watch = |watch: Watch, number: usize| match watch {
            Watch::One if routers > 0 => Some((number % routers) as u32),
            _ => None,
        };
        let mut clients = Vec::new();
        for index in 0..options.routers {
            let router = Router::new(index as u32, Duty::Load);
            clients.push((Client::Router(Box::new(router)), addresses.router));
        }
        // All that send commands are numbered in one row, so that their nonces differ.
        let kinds = [
            (Kind::App, options.apps, options.app_watch, addresses.app, options.callers),
            (Kind::Page, options.pages, options.page_watch, addresses.page, options.callers + options.apps),
        ];
        for (kind, count, watched, address, before) in kinds {
            for number in 0..count {
                let watcher =
                    Watcher::new(kind, (before + number) as u32 + 1, watch(watched, number), routers);
                clients.push((Client::Watcher(Box::new(watcher)), address));
            }
        }
        // Callers come last: the daemon closes an HTTP connection on which nothing is asked.
        for number in 0..options.callers {
            let caller = Caller::new(number as u32 + 1);
            clients.push((Client::Caller(Box::new(caller)), addresses.http));
        }
        for (index, (client, address)) in clients.into_iter().enumerate() {
            self.reactor.add(client, address, now + (index as f64 * gap) as u64);
        }
    }

    /// One turn, and the progress line each second.
    fn turn(&mut self) -> io::Result<()> {
        self.reactor.turn(&mut self.world, TICK)?;
        let up = self.world.stats.up;
        let most = &mut self.report.most_up;
        *most = Up {
            routers: most.routers.max(up.routers),
            callers: most.callers.max(up.callers),
            apps: most.apps.max(up.apps),
            pages: most.pages.max(up.pages),
        };
        if self.last_progress.0.elapsed() >= Duration::from_secs(1) {
            self.progress();
        }
        Ok(())
    }

    fn progress(&mut self) {
        let seconds = self.last_progress.0.elapsed().as_secs_f64();
        let (now, before) = (self.world.stats.counters, self.last_progress.1);
        let rate = |now: u64, before: u64| (now - before) as f64 / seconds;
        let memory = self.pid.and_then(|pid| proc::memory(pid).ok());
        let rss = memory.map_or("unknown".to_string(), |memory| mebibytes(memory.rss));
        self.report.peak_rss = self.report.peak_rss.max(memory.unwrap_or_default().rss);
        let up = self.world.stats.up;
        eprintln!(
            "{:?} {:.0} s: up {} routers {} callers {} apps {} pages · {:.0} commands/s {:.0} one-way/s · events {:.0}/s in {:.0}/s out · errors {} · rss {rss}",
            self.world.phase,
            self.reactor.now() as f64 / 1e9,
            up.routers,
            up.callers,
            up.apps,
            up.pages,
            rate(now.commands, before.commands),
            rate(now.oneway, before.oneway),
            rate(now.events_emitted, before.events_emitted),
            rate(now.events_delivered, before.events_delivered),
            self.world.stats.errors.total(),
        );
        self.last_progress = (Instant::now(), now);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn ramp(&mut self) -> io::Result<()> {
        let patience =
            Duration::from_secs_f64(self.wanted.total() as f64 / self.world.options.ramp) + RAMP_PATIENCE;
        let until = Instant::now() + patience;
        while self.world.stats.up != self.wanted && !self.stopped() {
            if Instant::now() > until {
                let detail = format!("{:?} of {:?} after {patience:?}", self.world.stats.up, self.wanted);
                self.world.stats.errors.add("not_all_up", detail);
                break;
            }
            self.turn()?;
        }
        Ok(())
    }

    fn load(&mut self) -> io::Result<()> {
        self.world.phase = Phase::Load;
        self.reactor.each(&mut self.world, |client, world, link| client.start(world, link));
        let began = Instant::now();
        let counters = self.world.stats.counters;
        let bytes = (self.reactor.bytes_in, self.reactor.bytes_out);
        let cpu = self.cpu_ns();
        while began.elapsed() < self.world.options.duration && !self.stopped() {
            self.turn()?;
        }
        let now = self.world.stats.counters;
        self.report.load_s = began.elapsed().as_secs_f64();
        self.report.load = Counters {
            commands: now.commands - counters.commands,
            oneway: now.oneway - counters.oneway,
            events_emitted: now.events_emitted - counters.events_emitted,
            events_delivered: now.events_delivered - counters.events_delivered,
            ..now
        };
        self.report.bytes_in = self.reactor.bytes_in - bytes.0;
        self.report.bytes_out = self.reactor.bytes_out - bytes.1;
        self.report.daemon_cpu_ns = cpu.zip(self.cpu_ns()).map(|(before, after)| after - before);
        Ok(())
    }

    fn cpu_ns(&self) -> Option<u64> {
        proc::cpu_ns(self.pid?).ok()
    }

    fn missing_events(&self) -> u64 {
        let watchers = self.reactor.clients().filter_map(|client| match client {
            Client::Watcher(watcher) => Some(watcher),
            _ => None,
        });
        watchers.map(|watcher| watcher.missing(&self.world)).sum()
    }

    /// Waits for everything that is outstanding; what does not come is lost.
    fn drain(&mut self) -> io::Result<()> {
        self.world.phase = Phase::Drain;
        let until = Instant::now() + self.world.options.drain;
        loop {
            self.turn()?;
            let (commands, events) = (self.world.ledger.open() as u64, self.missing_events());
            if commands + events == 0 {
                return Ok(());
            }
            if Instant::now() > until {
                let errors = &mut self.world.stats.errors;
                if commands > 0 {
                    errors.add_many(
                        "command_lost",
                        commands,
                        "not answered, or one-way and not received, at the end",
                    );
                }
                if events > 0 {
                    errors.add_many(
                        "event_lost",
                        events,
                        "emitted while a watcher was subscribed, and not received",
                    );
                }
                return Ok(());
            }
        }
    }

    fn ports(&self) -> [u16; 4] {
        let addresses = &self.world.options.addresses;
        [addresses.router.port(), addresses.http.port(), addresses.app.port(), addresses.page.port()]
    }

    /// The daemon now, by the kernel and by its census. The census connection itself is among the counted.
    fn moment(&mut self) -> Result<Moment, String> {
        let mut api = Api::connect(self.world.options.addresses.http)?;
        let census = api.census()?;
        let memory = self.pid.and_then(|pid| proc::memory(pid).ok());
        self.report.peak_rss = self.report.peak_rss.max(memory.unwrap_or_default().rss);
        if self.pid.and_then(|pid| proc::threads(pid).ok()).is_some_and(|threads| threads != 1) {
            self.world.stats.errors.add("daemon_threads", "more than one entry in /proc/PID/task");
        }
        Ok(Moment {
            memory,
            descriptors: self.pid.and_then(|pid| proc::descriptors(pid).ok()),
            established: proc::established(self.ports()),
            census,
        })
    }

    /// Asks until `good` says that the moment is as it must be, or patience is over.
    fn moment_when(&mut self, good: impl Fn(&Self, &Moment) -> bool) -> Moment {
        let until = Instant::now() + CLOSE_PATIENCE;
        loop {
            match self.moment() {
                Ok(moment) if good(self, &moment) || Instant::now() > until => return moment,
                Ok(_) => {}
                Err(error) => {
                    self.world.stats.errors.add("census_failed", error);
                    return Moment::default();
                }
            }
            // The routers must go on answering PINGs meanwhile.
            let next = Instant::now() + CENSUS_PACE;
            while Instant::now() < next {
                if let Err(error) = self.turn() {
                    self.world.stats.errors.add("census_failed", error.to_string());
                    return Moment::default();
                }
            }
        }
    }

    /// With all connections open and quiet: the kernel, the census and we must agree.
    fn compared_moment(&mut self) -> Moment {
        let good = |run: &Self, moment: &Moment| moment.agrees() && run.same_descriptors(moment);
        let moment = self.moment_when(good);
        if !moment.agrees() {
            let live = CONNECTIONS.map(|class| census::live(&moment.census, class));
            let detail = format!("the kernel has {:?}, the census {live:?}", moment.established);
            self.world.stats.errors.add("census_sockets", detail);
        }
        self.check(&moment);
        let up = self.world.stats.up;
        let held = [up.routers, up.callers, up.apps, up.pages];
        let known = !moment.census.is_null();
        if known && moment.established.iter().zip(held).any(|(established, held)| *established < held) {
            let detail = format!("we hold {held:?}, the kernel has {:?}", moment.established);
            self.world.stats.errors.add("connections_lost", detail);
        }
        moment
    }

    fn same_descriptors(&self, moment: &Moment) -> bool {
        moment.other_descriptors() == self.report.before.other_descriptors()
    }

    /// What must be true of every moment.
    fn check(&mut self, moment: &Moment) {
        if !moment.census.is_null() && !self.same_descriptors(moment) {
            let (before, now) = (self.report.before.other_descriptors(), moment.other_descriptors());
            let detail = format!("beside its connections the daemon had {before:?}, and now has {now:?}");
            self.world.stats.errors.add("descriptors", detail);
        }
        for fault in census::faults(&moment.census) {
            self.world.stats.errors.add_fault(fault);
        }
    }

    fn close(&mut self) -> io::Result<()> {
        self.world.phase = Phase::Close;
        self.reactor.each(&mut self.world, |client, world, link| client.close(world, link));
        let until = Instant::now() + CLOSE_PATIENCE;
        while self.reactor.open() > 0 && Instant::now() < until {
            self.turn()?;
        }
        let open = self.reactor.open() as u64;
        if open > 0 {
            self.world.stats.errors.add_many(
                "not_closed",
                open,
                "the daemon did not answer our FIN with its own",
            );
        }
        self.reactor.drop_all();
        Ok(())
    }

    /// After all are gone: the census must be back where it was. Memory is waited for too, but only reported.
    fn settled_moment(&mut self) -> Moment {
        let back = |run: &Self, moment: &Moment| {
            let live = |moment: &Moment, class| census::live(&moment.census, class).unwrap_or(0);
            let counts =
                CONNECTIONS.iter().chain(&["pending_command", "subscription", "timer", "queued_frame"]);
            counts.into_iter().all(|class| live(moment, class) <= live(&run.report.before, class))
                && run.same_descriptors(moment)
        };
        let settled = |run: &Self, moment: &Moment| {
            let anonymous = |moment: &Moment| moment.memory.unwrap_or_default().anonymous;
            back(run, moment) && anonymous(moment) <= anonymous(&run.report.before) + (2 << 20)
        };
        let moment = self.moment_when(settled);
        if !back(self, &moment) {
            self.world.stats.errors.add("census_not_back", moment.census["classes"].to_string());
        }
        self.check(&moment);
        moment
    }
}
