//! What the tags cost a block, and how long giving back holds up the loop: `cargo bench --bench allocator`.
//!
//! Trust ratios of one run, not its times.

use berth::clock::Time;
use berth::memory::allocator::Charging;
use berth::memory::jemalloc::{Decay, OPTIONS, prepare, resident};
use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::time::{Duration, Instant};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Charging<Jemalloc> = Charging(Jemalloc);

/// Where jemalloc looks for its options before its first block.
#[unsafe(export_name = "_rjem_malloc_conf")]
static JEMALLOC_OPTIONS: Option<&'static u8> = Some(&OPTIONS[0]);

const PAIRS: u32 = 2_000_000;

/// The best of some rounds, in nanoseconds for a block that is asked for and freed.
fn pair_ns(allocator: &impl GlobalAlloc, bytes: usize) -> f64 {
    let layout = Layout::from_size_align(bytes, 8).expect("a plain layout");
    let round = || {
        let began = Instant::now();
        for _ in 0..PAIRS {
            // SAFETY: the layout has a size, and each block is freed with it.
            unsafe { allocator.dealloc(black_box(allocator.alloc(black_box(layout))), layout) };
        }
        began.elapsed().as_nanos() as f64 / f64::from(PAIRS)
    };
    (0..5).map(|_| round()).fold(f64::INFINITY, f64::min)
}

fn tags() {
    for bytes in [64, 512, 2048] {
        let (bare, charged) = (pair_ns(&Jemalloc, bytes), pair_ns(&ALLOCATOR, bytes));
        println!(
            "{bytes:>5} B: {bare:.1} ns bare, {charged:.1} ns charged: {:+.1} ns a pair",
            charged - bare
        );
    }
}

/// What this thread has had of a processor: a slice is not to blame for what else the machine does.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours and outlives the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "the thread has a clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// 480 MB in blocks of 48 KB, all written and all freed; then slices as the loop takes them.
fn giving_back() {
    prepare(512 << 20);
    let before = resident().rss;
    let blocks: Vec<Vec<u8>> = (0..10_000).map(|_| vec![1; 48_000]).collect();
    let peak = resident().rss;
    drop(black_box(blocks));
    let (mut decay, began) = (Decay::default(), Instant::now());
    let (mut longest, mut spent, mut slices) = (Duration::ZERO, Duration::ZERO, 0);
    loop {
        let at = cpu_time();
        decay.tick(Time(began.elapsed().as_nanos() as u64));
        let took = cpu_time() - at;
        (longest, spent, slices) = (longest.max(took), spent + took, slices + 1);
        let Some(next) = decay.next() else { break };
        let now = Time(began.elapsed().as_nanos() as u64);
        std::thread::sleep(next.since(now));
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "resident {:.1} MiB before, {:.1} at the peak, {:.1} after {:.1} s: {slices} slices, {:.2} ms of CPU the longest, {:.0} ms in all",
        mib(before),
        mib(peak),
        mib(resident().rss),
        began.elapsed().as_secs_f64(),
        longest.as_secs_f64() * 1e3,
        spent.as_secs_f64() * 1e3,
    );
}

fn main() {
    tags();
    giving_back();
}
