//! The books against the allocator's own count, and against what was asked for.
//!
//! One test in this file at a time looks at the process's figures: they are the whole process's.

use berth::id::{Class, Token};
use berth::memory::allocator::Charging;
use berth::memory::{Holder, charge, charge_connection, close_account, holdings, open_account, owned_by};
use std::alloc::{GlobalAlloc, Layout};
use std::sync::Mutex;
use tikv_jemalloc_ctl::{epoch, stats};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Charging<Jemalloc> = Charging(Jemalloc);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

fn of(holder: Holder) -> (i64, i64) {
    let balance = holdings().of(holder);
    (balance.bytes, balance.blocks)
}

/// Blocks of every size and alignment, grown, shrunk and freed in random order: the class holds exactly what was asked for
/// and not freed, and jemalloc holds that, the tags, and what rounding adds.
#[test]
fn live_bytes_are_what_was_asked_for_and_the_allocator_agrees() {
    let _one = ONE_AT_A_TIME.lock().unwrap();
    let seed = std::env::var("BERTH_SEED").map_or(7, |seed| seed.parse().expect("BERTH_SEED is a number"));
    println!("BERTH_SEED={seed}");
    let mut state = seed;
    let mut blocks: Vec<(*mut u8, Layout, u8)> = Vec::with_capacity(20_000);
    epoch::advance().unwrap();
    let (live_before, allocated_before) = (holdings().live_bytes(), stats::allocated::read().unwrap());
    let _charge = charge(Holder::Shadow);
    let (mut bytes, mut peak) = (0_i64, 0);
    for _ in 0..60_000 {
        let size = match random(&mut state) % 10 {
            0 => random(&mut state) % 200_000,
            1..4 => random(&mut state) % 5_000,
            _ => random(&mut state) % 200,
        } as usize
            + 1;
        match random(&mut state) % 4 {
            0 | 1 if blocks.len() < blocks.capacity() => {
                let align = 1 << (random(&mut state) % 8);
                let layout = Layout::from_size_align(size, align).unwrap();
                let fill = random(&mut state) as u8;
                let zeroed = fill.is_multiple_of(2);
                // SAFETY: the layout has a size; the block is written within it.
                let block = unsafe {
                    let block = if zeroed { ALLOCATOR.alloc_zeroed(layout) } else { ALLOCATOR.alloc(layout) };
                    assert!(!block.is_null() && (block as usize).is_multiple_of(align));
                    assert!(!zeroed || (0..size).all(|at| block.add(at).read() == 0));
                    block.write_bytes(fill, size);
                    block
                };
                bytes += size as i64;
                blocks.push((block, layout, fill));
            }
            2 if !blocks.is_empty() => {
                let index = random(&mut state) as usize % blocks.len();
                let (block, layout, fill) = &mut blocks[index];
                // SAFETY: block and layout belong together, and the new size is not zero.
                unsafe {
                    let moved = ALLOCATOR.realloc(*block, *layout, size);
                    assert!(!moved.is_null() && (moved as usize).is_multiple_of(layout.align()));
                    assert!((0..size.min(layout.size())).all(|at| moved.add(at).read() == *fill));
                    moved.write_bytes(*fill, size);
                    *block = moved;
                }
                bytes += size as i64 - layout.size() as i64;
                *layout = Layout::from_size_align(size, layout.align()).unwrap();
            }
            _ if !blocks.is_empty() => {
                let index = random(&mut state) as usize % blocks.len();
                let (block, layout, fill) = blocks.swap_remove(index);
                // SAFETY: block and layout belong together, and it is not used again.
                unsafe {
                    assert_eq!(block.add(layout.size() - 1).read(), fill);
                    ALLOCATOR.dealloc(block, layout);
                }
                bytes -= layout.size() as i64;
            }
            _ => {}
        }
        assert_eq!(of(Holder::Shadow), (bytes, blocks.len() as i64));
        peak = peak.max(bytes);
    }
    assert!(peak > 10 << 20, "{peak}");
    epoch::advance().unwrap();
    let live = holdings().live_bytes() - live_before;
    let allocated = stats::allocated::read().unwrap() as i64 - allocated_before as i64;
    // A tag is 16 bytes, or the alignment where that is more; rounding adds a quarter at most behind 128 bytes.
    let least = live + 16 * blocks.len() as i64;
    assert!(
        (least..least * 14 / 10).contains(&allocated),
        "{live} live, {allocated} allocated, at least {least}"
    );
    for (block, layout, _) in blocks.drain(..) {
        // SAFETY: as above.
        unsafe { ALLOCATOR.dealloc(block, layout) };
    }
    assert_eq!(of(Holder::Shadow), (0, 0));
}

#[test]
fn a_connection_is_charged_for_what_it_owns_until_its_account_is_closed() {
    let _one = ONE_AT_A_TIME.lock().unwrap();
    let (first, second) = (Token { slot: 5, generation: 8 }, Token { slot: 5, generation: 9 });
    open_account(first);
    let mut owned = {
        let _charge = charge_connection(Class::App, first);
        vec![1_u8; 1000]
    };
    assert_eq!(owned_by(first), 1000);
    owned.reserve_exact(1000); // grows under no tag of its own, and keeps the first
    assert_eq!((owned_by(first), owned_by(second)), (2000, 0));
    assert_eq!(holdings().orphaned(Holder::App), 0);

    // It ends without giving this back: it is nobody's from then on, whoever has the slot next.
    assert_eq!(close_account(Class::App, first), 2000);
    assert_eq!((owned_by(first), holdings().orphaned(Holder::App)), (0, 2000));
    open_account(second);
    let kept = {
        let _charge = charge_connection(Class::App, second);
        vec![1_u8; 10]
    };
    drop(owned);
    assert_eq!((owned_by(second), holdings().orphaned(Holder::App)), (10, 0));
    drop(kept);
    assert_eq!((close_account(Class::App, second), of(Holder::App)), (0, (0, 0)));
}

#[test]
fn the_classes_make_all_that_is_live() {
    let _one = ONE_AT_A_TIME.lock().unwrap();
    let kept: Vec<_> = Holder::ALL
        .into_iter()
        .map(|holder| {
            let _charge = charge(holder);
            vec![0_u8; 100]
        })
        .collect();
    let holdings = holdings();
    let sum: i64 = Holder::ALL.into_iter().map(|holder| holdings.of(holder).bytes).sum();
    assert_eq!(sum, holdings.live_bytes());
    assert!(Holder::ALL.into_iter().all(|holder| holdings.of(holder).bytes >= 100));
    drop(kept);
}
