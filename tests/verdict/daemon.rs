//! A daemon as its samples show it: load in daily waves, bursts, lazy tables, an allocator with holes; and what leaks from
//! it, once that is planted.

use crate::random::Random;
use berth::clock::Time;
use berth::memory::{ClassSample, Holder, Load, SAMPLE_EVERY, Sample};
use std::f64::consts::TAU;
use std::time::Duration;

const DAY_S: f64 = 86_400.0;
const CONNECTIONS: [Holder; 4] = [Holder::Router, Holder::Http, Holder::App, Holder::Page];

/// What goes wrong, from when it is planted on.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Bytes of connections that are gone.
    Orphans { holder: Holder, bytes_per_second: f64 },
    /// Objects that nobody removes; the tables have room for them, and know of it.
    Strays { holder: Holder, per_minute: f64 },
    /// Bytes that nothing explains.
    Excess { holder: Holder, bytes_per_second: f64 },
    /// The same, in objects of 16 KiB and in a map that doubles.
    LumpyExcess { holder: Holder, bytes_per_second: f64 },
    /// The allocator keeps what is freed.
    Holes { bytes: u64 },
}

/// How much of its bound a class takes: between 40 and 100 %, each in its own way. That of `other` is known better.
#[derive(Clone, Copy, Debug)]
struct Slack {
    share: f64,
    least: f64,
    /// How far it moves in one sample.
    restlessness: f64,
}

impl Slack {
    const NONE: Slack = Slack { share: 1.0, least: 1.0, restlessness: 0.0 };

    fn new(holder: Holder, random: &mut Random) -> Self {
        let least = if holder == Holder::Other { 0.9 } else { 0.4 };
        let restlessness = (1.0 - least) * random.pick(&[0.0, 0.0003, 0.003, 0.03, 1.0]);
        Self { share: least + (1.0 - least) * fraction(random), least, restlessness }
    }

    fn step(&mut self, random: &mut Random) -> f64 {
        let moved = self.share + self.restlessness * (2.0 * fraction(random) - 1.0);
        self.share = moved.clamp(self.least, 1.0);
        self.share
    }
}

pub struct Daemon {
    random: Random,
    at: Time,
    phase: f64,
    /// The fleet at its smallest, and how much larger it is at its largest; the whole may grow day by day.
    least_routers: f64,
    pub wave: f64,
    pub growth_per_day: f64,
    slack: [Slack; 13],
    shadows: f64,
    shadow_values: f64,
    burst_bytes: f64,
    burst_ends: Time,
    freed_bytes: f64,
    lazily_made: f64,
    rounds: u64,
    strayed_before: bool,
    strays: [u64; 13],
    fault: Option<(Fault, Time)>,
    mended: Option<Time>,
}

fn fraction(random: &mut Random) -> f64 {
    random.below(1 << 30) as f64 / (1u64 << 30) as f64
}

impl Daemon {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            at: Time(random.below(5_000_000_000) as u64),
            phase: fraction(&mut random),
            least_routers: random.between(50, 500) as f64,
            wave: 9.0,
            growth_per_day: 0.0,
            slack: Holder::ALL.map(|holder| Slack::new(holder, &mut random)),
            shadows: 0.0,
            shadow_values: 500.0,
            burst_bytes: 0.0,
            burst_ends: Time::ZERO,
            freed_bytes: 0.0,
            lazily_made: 0.0,
            rounds: 0,
            strayed_before: false,
            strays: [0; 13],
            fault: None,
            mended: None,
            random,
        }
    }

    pub fn now(&self) -> Time {
        self.at
    }

    /// A class whose bound is exact, as the bounds of the tables are meant to be.
    pub fn with_exact(mut self, holder: Holder) -> Self {
        self.slack[holder as usize] = Slack::NONE;
        self
    }

    pub fn plant(&mut self, fault: Fault) {
        self.fault = Some((fault, self.at));
        self.mended = None;
    }

    /// Nothing more leaks; what has leaked stays.
    pub fn mend(&mut self) {
        self.mended = Some(self.at);
    }

    /// What has leaked is given back too.
    pub fn recover(&mut self) {
        self.fault = None;
    }

    pub fn sleep(&mut self, duration: Duration) {
        self.at = self.at + duration;
    }

    pub fn sample(&mut self) -> Sample {
        self.at = self.at + SAMPLE_EVERY;
        let load = self.load();
        let mut sample = Sample { at: self.at, load, ..Sample::default() };
        for holder in Holder::ALL {
            sample.classes[holder as usize] = self.honest(holder, &load);
        }
        self.patrol();
        sample.patrol_rounds = self.rounds;
        let mut holes = self.holes(sample.live_bytes());
        if let Some((fault, planted)) = self.fault {
            let seconds = self.mended.unwrap_or(self.at).since(planted).as_secs_f64();
            holes += self.go_wrong(fault, seconds, &mut sample);
        }
        for holder in Holder::ALL {
            sample.classes[holder as usize].strays = self.strays[holder as usize];
        }
        sample.allocated_from_kernel_bytes = sample.live_bytes().max(0) as u64 + holes;
        sample.resident_bytes = sample.allocated_from_kernel_bytes + (8 << 20);
        sample
    }

    fn load(&mut self) -> Load {
        let days = self.at.0 as f64 / 1e9 / DAY_S;
        let wave = 0.5 - 0.5 * (TAU * (days + self.phase)).cos();
        let fleet = self.least_routers * (1.0 + self.wave * wave) * (1.0 + self.growth_per_day * days);
        let random = &mut self.random;
        let mut jittered = |figure: f64| (figure * (0.98 + 0.04 * fraction(random))) as u64;
        let (routers, clients) = (jittered(fleet), jittered(fleet / 2.0));

        // A router that goes leaves a shadow; now and then the oldest of them expire.
        self.shadows = (self.shadows * 1.0005 + 0.02).clamp(routers as f64, routers as f64 + 10_000.0);
        self.shadow_values = (self.shadow_values + 0.2 * fraction(random)).min(8_000.0);
        if random.below(2_000) == 0 {
            (self.shadows, self.shadow_values) = (routers as f64, 500.0);
        }
        // A burst of queued bytes, for seconds or, where watchers are slow, for half an hour.
        if self.at >= self.burst_ends {
            self.freed_bytes = self.freed_bytes.max(self.burst_bytes);
            self.burst_bytes = 0.0;
            if random.chance(1) {
                self.burst_bytes = random.between(1 << 20, 200 << 20) as f64;
                let seconds = *random.pick(&[10, 30, 120, 1800]);
                self.burst_ends = self.at + Duration::from_secs(seconds);
            }
        }
        Load {
            routers,
            clients,
            http_connections: random.below(60) as u64,
            requests: random.below(1 + routers as usize / 4) as u64,
            streams: random.below(8) as u64,
            subscriptions: clients * 3,
            shadows: self.shadows as u64,
            remembered_events: (self.shadow_values * 20.0) as u64,
            buffered_bytes: self.burst_bytes as u64 + random.below(100_000) as u64,
        }
    }

    fn honest(&mut self, holder: Holder, load: &Load) -> ClassSample {
        let connections = load.routers + load.clients + load.http_connections;
        let (objects, each, fixed) = match holder {
            Holder::Router => (load.routers, 1800.0, 0),
            Holder::Http => (load.http_connections, 2500.0, 0),
            Holder::App => (load.clients / 2, 1500.0, 0),
            Holder::Page => (load.clients - load.clients / 2, 1500.0, 0),
            Holder::Listener => (4, 0.0, 4096),
            Holder::PendingCommand => (load.requests, 700.0, 9_000),
            Holder::Subscription => (load.subscriptions, 90.0, 6_000),
            Holder::Stream => (load.streams, 900.0, 2_000),
            Holder::Timer => (connections + load.requests, 40.0, 5_000),
            Holder::Shadow => (load.shadows, self.shadow_values, 8_000),
            Holder::QueuedFrame => (load.buffered_bytes / 4096, 4200.0, 120_000),
            Holder::Log => (0, 0.0, 262_144),
            Holder::Other => (connections, 24.0, 2_000),
        };
        let explained = (objects as f64 * each) as u64 + fixed;
        let share = self.slack[holder as usize].step(&mut self.random);
        let mut bytes = (explained as f64 * share) as i64;
        if holder == Holder::Other {
            bytes += 3_000_000 + self.others();
        }
        ClassSample {
            bytes,
            objects: if holder == Holder::Other { 0 } else { objects },
            explained_bytes: explained,
            ..ClassSample::default()
        }
    }

    /// What is made at first use and stays, and what is there just at the moment.
    fn others(&mut self) -> i64 {
        if self.random.below(3_000) == 0 && self.lazily_made < 600_000.0 {
            self.lazily_made += self.random.between(100, 100_000) as f64;
        }
        let passing = if self.random.chance(20) { self.random.below(300_000) } else { 0 };
        self.lazily_made as i64 + passing as i64
    }

    /// A round every one to three samples. Now and then it meets an object that is just going.
    fn patrol(&mut self) {
        if self.random.chance(60) {
            self.rounds += 1;
            self.strays = [0; 13];
            self.strayed_before = !self.strayed_before && self.random.chance(2);
            if self.strayed_before {
                self.strays[self.random.below(13)] = self.random.between(1, 3) as u64;
            }
        }
    }

    /// Some always, and after a burst nearly all of it, until the allocator has given it back.
    fn holes(&mut self, live: i64) -> u64 {
        self.freed_bytes *= 0.6;
        let usual = live.max(0) as f64 * 0.2 + 6e6 * fraction(&mut self.random);
        (usual + self.freed_bytes) as u64
    }

    fn go_wrong(&mut self, fault: Fault, seconds: f64, sample: &mut Sample) -> u64 {
        match fault {
            Fault::Orphans { holder, bytes_per_second } => {
                let class = &mut sample.classes[holder as usize];
                class.bytes += (seconds * bytes_per_second) as i64;
                class.orphaned_bytes += (seconds * bytes_per_second) as i64;
            }
            Fault::Strays { holder, per_minute } => {
                let objects = (seconds / 60.0 * per_minute) as u64;
                let class = &mut sample.classes[holder as usize];
                class.objects += objects;
                class.bytes += 200 * objects as i64;
                class.explained_bytes += 200 * objects;
                self.strays[holder as usize] = objects;
            }
            Fault::Excess { holder, bytes_per_second } => {
                sample.classes[holder as usize].bytes += (seconds * bytes_per_second) as i64;
            }
            Fault::LumpyExcess { holder, bytes_per_second } => {
                let bytes = seconds * bytes_per_second;
                let lumps = (bytes / 16384.0).floor() * 16384.0;
                let map = (bytes as u64 / 64).next_power_of_two() as f64;
                sample.classes[holder as usize].bytes += (lumps + map) as i64;
            }
            Fault::Holes { bytes } => return bytes,
        }
        0
    }
}

/// Any class of connections.
pub fn connections(seed: u64) -> Holder {
    CONNECTIONS[seed as usize % CONNECTIONS.len()]
}
