//! Contract section 1, Streams: whatever a router loses, repeats or breaks, and however its consumer reads, every row comes
//! once, in order and whole. Seeded; a seed that fails is in the message and comes again.

use std::net::SocketAddr;
use std::time::Duration;

use conformance::calls::Census;
use conformance::daemon::Daemon;
use conformance::frame::kind;
use conformance::random::Random;
use conformance::router::{Dial, Router};
use conformance::stream::{Consumer, MAX_ROW, Open, Sender};

const SEEDS: u64 = 24;
/// Streams beside each other.
const AT_ONCE: u64 = 6;

/// What a stream is made of.
#[derive(Clone, Copy, Debug)]
struct Plan {
    seed: u64,
    rows: u64,
    longest: usize,
    json: bool,
    max_messages: usize,
    max_bytes: usize,
    /// One fault in so many rows.
    faults: usize,
    small: bool,
}

impl Plan {
    fn of(seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            seed,
            rows: random.below(400) as u64,
            longest: random.pick(&[0, 10, 300, 5000, MAX_ROW]),
            json: random.one_in(2),
            max_messages: random.pick(&[1, 2, 5, 20, 100, 1024]),
            max_bytes: random.pick(&[16_384, 20_000, 65_536, 1_048_576]),
            faults: random.pick(&[5, 20, 100, 1000]),
            small: random.one_in(2),
        }
    }

    fn row(&self, number: u64) -> Vec<u8> {
        let mut random = Random::new(self.seed.wrapping_mul(1_000_003) ^ number);
        let length = random.below(self.longest + 1);
        let byte = b'a' + random.below(26) as u8;
        let mut row = format!("{number}:").into_bytes();
        row.resize(length.max(row.len()).min(MAX_ROW), byte);
        row
    }

    fn sender(&self, open: Open) -> Sender {
        if self.json { Sender::of_json(open) } else { Sender::of_octets(open) }
    }
}

/// The router's side, until all rows were sent and END.
fn serve(address: SocketAddr, id: &str, plan: Plan, mut router: Router) -> Router {
    let mut random = Random::new(!plan.seed);
    let mut sender = plan.sender(router.recv_open());
    while sender.next < plan.rows {
        let row = plan.row(sender.next);
        sender.send(&mut router, &row);
        if !random.one_in(plan.faults) {
            continue;
        }
        // The row before it has come, so that an OPEN in which nothing comes does not count against it.
        sender.wait_for_acks(&mut router);
        let open = sender.open.clone();
        let (next, stray) = (sender.next, plan.row(sender.next + 1));
        let fault = random.below(7);
        match fault {
            0 => router.send(&open.item(next + 1, stray)),
            1 => router.send(&open.item(next - 1, stray)),
            2 => router.send(&open.end(next + 1)),
            3 => drop(std::mem::replace(&mut router, Router::bind(address, id))),
            4 => {
                router.reset();
                router = Router::bind(address, id);
            }
            5 => {
                // Rows are on their way to the session that is taken over.
                router.send(&open.item(next + 5, "lost"));
                router = Router::bind(address, id);
            }
            _ => {
                // Late ones of the old id follow the gap.
                for n in 1..4 {
                    router.send(&open.item(next + n, "late"));
                }
                router.send(&open.end(next));
            }
        }
        if !(3..=5).contains(&fault) {
            router.expect_cancel(open.id);
        }
        let new = Open::of(&router.recv());
        assert_eq!(new.from, next, "{plan:?}, fault {fault}");
        sender = plan.sender(new);
    }
    sender.end(&mut router);
    router
}

fn consume(plan: Plan, mut consumer: Consumer) {
    let mut random = Random::new(plan.seed << 32);
    if plan.rows == 0 || plan.json {
        consumer.expect_lines()
    } else {
        consumer.expect_octets()
    };
    for number in 0..plan.rows {
        let row = if plan.json { consumer.line() } else { consumer.row() };
        assert!(row == plan.row(number), "{plan:?}: row {number} is {:?}", String::from_utf8_lossy(&row));
        if random.one_in(60) {
            std::thread::sleep(Duration::from_millis(random.below(20) as u64));
        }
    }
    consumer.expect_end();
}

#[test]
fn every_row_comes_once_in_order_and_whole() {
    let daemon = Daemon::start("");
    let seeds: Vec<u64> = (0..SEEDS).collect();
    for batch in seeds.chunks(AT_ONCE as usize) {
        std::thread::scope(|scope| {
            for &seed in batch {
                let daemon = &daemon;
                scope.spawn(move || {
                    let (plan, id) = (Plan::of(seed), format!("r{seed}"));
                    let router = Router::bind(daemon.router, &id);
                    let stream =
                        format!("log?max_messages={}&max_bytes={}", plan.max_messages, plan.max_bytes);
                    let consumer = match plan.small {
                        true => Consumer::get_small(daemon.http, &id, &stream),
                        false => Consumer::get(daemon.http, &id, &stream),
                    };
                    let address = daemon.router;
                    let source = scope.spawn(move || serve(address, &id, plan, router));
                    consume(plan, consumer);
                    let mut router = source.join().expect("the router");
                    let rest = router.frames_before_pong();
                    assert!(rest.iter().all(|frame| frame.kind == kind::ACK), "{plan:?}: {rest:?}");
                });
            }
        });
        Census::audited(&daemon).assert_well();
    }
    let census = Census::of(&daemon);
    assert_eq!((census.live("stream"), census.count("stream", "opened")), (0, SEEDS));
    // Nobody was cut for what was not its fault.
    assert_eq!(census.reason("router", "protocol_error"), 0, "{}", census.0);
}

#[test]
fn a_consumer_with_the_smallest_kernel_gets_every_byte() {
    // Every write to it is cut somewhere.
    let daemon = Daemon::start("");
    let mut router = Router::bind(daemon.router, "hub");
    let dial = Dial { receive_buffer: Some(1), ..Dial::default() };
    let client = conformance::http::Client::over(dial.stream(daemon.http).expect("connect"));
    let mut consumer = Consumer::over(client, "hub", "log?max_messages=3");
    let source = std::thread::spawn(move || {
        let mut sender = Sender::of_octets(router.recv_open());
        for n in 0..60_u8 {
            sender.send(&mut router, vec![n; usize::from(n) * 150]);
        }
        sender.end(&mut router);
        router
    });
    consumer.expect_octets();
    for n in 0..60_u8 {
        assert!(consumer.row() == vec![n; usize::from(n) * 150], "row {n}");
    }
    consumer.expect_end();
    source.join().expect("the router").frames_before_pong();
}
