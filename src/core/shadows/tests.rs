use super::history::EVENT_BYTES;
use super::shadow::SHADOW_BYTES;
use super::*;

const LIMITS: ShadowSettings = ShadowSettings {
    keep: Duration::from_secs(60),
    max_offline: 2,
    max_topics: 2,
    max_bytes: 100,
    max_total_bytes: 10_000,
    history_events: 0,
    history_bytes: 0,
};

/// The same with a history.
const WITH_HISTORY: ShadowSettings =
    ShadowSettings { max_total_bytes: 1_000_000, history_events: 4, history_bytes: 100, ..LIMITS };

fn token(slot: u32) -> Token {
    Token { slot, generation: 1 }
}

struct Bench {
    shadows: Shadows,
    mint: Mint,
}

impl Bench {
    fn new() -> Self {
        Self { shadows: Shadows::default(), mint: Mint::new(1) }
    }

    fn bind(&mut self, id: &str, slot: u32) -> u32 {
        self.shadows.bind(id, token(slot), &mut self.mint, &LIMITS).0
    }

    fn retain(&mut self, key: u32, topic: &str, body: &[u8], limits: &ShadowSettings) -> u64 {
        self.publish(key, &Event { topic, body, json: false, retain: true }, limits)
    }

    fn publish(&mut self, key: u32, event: &Event<'_>, limits: &ShadowSettings) -> u64 {
        let seq = self.shadows.publish(key, event, limits);
        self.shadows.recount().unwrap();
        seq
    }

    fn events(&mut self, key: u32, topics: &[&str], limits: &ShadowSettings) {
        for topic in topics {
            self.publish(key, &Event { topic, body: b"body", json: true, retain: false }, limits);
        }
    }

    /// What a reader gets until the end: topics, and `gap`.
    fn read(&self, router: Option<&str>, mut cursor: Cursor) -> Vec<String> {
        let mut got = Vec::new();
        loop {
            match self.shadows.read(router, &mut cursor) {
                Read::Event(shadow, event) => got.push(format!("{}/{}", shadow.id, event.message.topic())),
                Read::Gap(_) => got.push("gap".into()),
                Read::End => return got,
            }
        }
    }
}

#[test]
fn a_shadow_outlives_its_session_and_comes_back_with_its_epoch() {
    let mut bench = Bench::new();
    let key = bench.bind("a", 1);
    let epoch = bench.shadows.get(key).epoch;
    assert_eq!(bench.retain(key, "t", b"1", &LIMITS), 1);
    assert_eq!(bench.shadows.unbind(key, token(1), Time(0), &LIMITS).as_deref(), Some("a"));
    let again = bench.bind("a", 2);
    let shadow = bench.shadows.get(again);
    assert_eq!((shadow.epoch, shadow.seq, shadow.values()), (epoch, 1, 1));
    bench.shadows.recount().unwrap();
}

#[test]
fn an_old_session_does_not_unbind_its_successor() {
    let mut bench = Bench::new();
    let key = bench.bind("a", 1);
    assert_eq!(bench.shadows.bind("a", token(2), &mut bench.mint, &LIMITS), (key, Some(token(1))));
    assert_eq!(bench.shadows.unbind(key, token(1), Time(0), &LIMITS), None);
    assert_eq!(bench.shadows.bound("a"), Some(token(2)));
}

#[test]
fn an_old_session_may_outlive_the_shadow() {
    let limits = ShadowSettings { keep: Duration::ZERO, ..LIMITS };
    let mut bench = Bench::new();
    let key = bench.bind("a", 1);
    bench.bind("a", 2);
    assert!(bench.shadows.unbind(key, token(2), Time(0), &limits).is_some());
    assert_eq!(bench.shadows.unbind(key, token(1), Time(0), &limits), None);
    assert_eq!(bench.bind("b", 3), key, "the slot is used again");
    assert_eq!(bench.shadows.unbind(key, token(1), Time(0), &limits), None);
    bench.shadows.recount().unwrap();
}

#[test]
fn the_longest_gone_is_dropped_first_and_time_drops_the_rest() {
    let mut bench = Bench::new();
    for (slot, id) in ["a", "b", "c"].into_iter().enumerate() {
        let key = bench.bind(id, slot as u32);
        bench.shadows.unbind(key, token(slot as u32), Time(slot as u64), &LIMITS);
    }
    assert_eq!((bench.shadows.find("a"), bench.shadows.len(), bench.shadows.evicted), (None, 2, 1));
    bench.shadows.expire(Time(1) + LIMITS.keep, LIMITS.keep);
    assert_eq!((bench.shadows.find("b"), bench.shadows.len()), (None, 1));
    bench.shadows.expire(Time(2) + LIMITS.keep, LIMITS.keep);
    assert!(bench.shadows.is_empty() && bench.shadows.bytes() == 0);
}

#[test]
fn a_retain_that_cannot_be_kept_removes_the_old_value() {
    let mut bench = Bench::new();
    let key = bench.bind("a", 1);
    bench.retain(key, "t", b"old", &LIMITS);
    bench.retain(key, "t", &[0; 200], &LIMITS);
    assert!(bench.shadows.get(key).value("t").is_none());
    bench.retain(key, "x", b"1", &LIMITS);
    bench.retain(key, "y", b"1", &LIMITS);
    bench.retain(key, "z", b"1", &LIMITS);
    assert_eq!((bench.shadows.get(key).values(), bench.shadows.unkept), (2, 2));
    bench.retain(key, "x", b"", &LIMITS);
    assert_eq!((bench.shadows.get(key).values(), bench.shadows.unkept), (1, 2));
}

#[test]
fn the_sum_of_all_shadows_is_bounded_and_the_gone_make_room() {
    let limits = ShadowSettings { max_total_bytes: 3 * (SHADOW_BYTES + 1), ..LIMITS };
    let mut bench = Bench::new();
    for (slot, id) in ["a", "b", "c"].into_iter().enumerate() {
        bench.bind(id, slot as u32);
    }
    let key = bench.shadows.find("c").unwrap();
    bench.retain(key, "t", b"1", &limits);
    assert_eq!(bench.shadows.unkept, 1);
    let gone = bench.shadows.find("a").unwrap();
    bench.shadows.unbind(gone, token(0), Time(0), &limits);
    bench.retain(key, "t", b"1", &limits);
    assert_eq!((bench.shadows.find("a"), bench.shadows.get(key).values()), (None, 1));
}

#[test]
fn forgetting_gives_a_bound_router_a_new_epoch() {
    let mut bench = Bench::new();
    let key = bench.bind("a", 1);
    bench.retain(key, "t", b"1", &LIMITS);
    let epoch = bench.shadows.get(key).epoch;
    bench.shadows.forget("a", &mut bench.mint);
    let shadow = bench.shadows.get(key);
    assert!(shadow.epoch != epoch && shadow.seq == 0 && shadow.values() == 0 && shadow.bound.is_some());
    bench.shadows.recount().unwrap();
}

#[test]
fn pages_are_in_id_order_with_prefix() {
    let mut bench = Bench::new();
    for (slot, id) in ["b2", "a", "b1", "c", "b3"].into_iter().enumerate() {
        bench.bind(id, slot as u32);
    }
    let page = |prefix, after| {
        bench.shadows.page(prefix, after).map(|shadow| shadow.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(page("", None), ["a", "b1", "b2", "b3", "c"]);
    assert_eq!(page("b", None), ["b1", "b2", "b3"]);
    assert_eq!(page("b", Some("b1")), ["b2", "b3"]);
    assert_eq!(page("b", Some("a")), ["b1", "b2", "b3"]);
    assert_eq!(page("", Some("b3")), ["c"]);
}

#[test]
fn a_history_is_the_last_events_in_order() {
    let mut bench = Bench::new();
    let key = bench.bind("a", 1);
    bench.events(key, &["1", "2", "3", "4", "5", "6"], &WITH_HISTORY);
    let shadow = bench.shadows.get(key);
    assert_eq!((shadow.remembered(), shadow.lost_seq(), shadow.seq), (4, 2, 6));
    let event = shadow.event_behind(4).unwrap();
    assert_eq!(
        (event.message.topic(), event.message.body(), event.seq, event.number, event.json),
        ("5", &b"body"[..], 5, 5, true)
    );
    assert!(shadow.event_behind(1).is_none() && shadow.event_behind(6).is_none());
    assert_eq!(bench.read(Some("a"), Cursor::behind(4)), ["a/5", "a/6"]);
    assert_eq!(bench.read(Some("a"), Cursor::behind(2)), ["a/3", "a/4", "a/5", "a/6"]);
    assert_eq!(bench.read(Some("a"), Cursor::behind(1)), ["gap", "a/3", "a/4", "a/5", "a/6"]);
    assert_eq!(bench.read(Some("a"), Cursor::behind(6)), Vec::<String>::new());
}

#[test]
fn a_history_is_bounded_by_bytes_and_one_event_that_is_too_long_takes_all_along() {
    let mut bench = Bench::new();
    let key = bench.bind("a", 1);
    let long = |length: usize| vec![b'x'; length];
    let mut publish = |topic, body: &[u8]| {
        bench.publish(key, &Event { topic, body, json: false, retain: false }, &WITH_HISTORY);
        let shadow = bench.shadows.get(key);
        (shadow.remembered(), shadow.lost_seq())
    };
    assert_eq!(publish("1", &long(39)), (1, 0));
    assert_eq!(publish("2", &long(59)), (2, 0));
    assert_eq!(publish("3", &long(0)), (2, 1));
    assert_eq!(publish("4", &long(99)), (1, 3));
    assert_eq!(publish("5", &long(100)), (0, 5));
    assert_eq!(publish("6", &long(1)), (1, 5));
    assert_eq!(bench.read(Some("a"), Cursor::behind(4)), ["gap", "a/6"]);
}

#[test]
fn without_a_history_everything_is_lost_at_once() {
    for limits in [
        ShadowSettings { history_events: 0, ..WITH_HISTORY },
        ShadowSettings { history_bytes: 0, ..WITH_HISTORY },
    ] {
        let mut bench = Bench::new();
        let key = bench.bind("a", 1);
        bench.events(key, &["1", "2"], &limits);
        assert_eq!((bench.shadows.remembered(), bench.shadows.published()), (0, 2));
        assert_eq!(bench.read(None, Cursor::behind(1)), ["gap"]);
        assert_eq!(bench.read(None, Cursor::behind(2)), Vec::<String>::new());
    }
}

#[test]
fn all_histories_are_read_in_the_order_in_which_their_events_came() {
    let mut bench = Bench::new();
    let keys = ["a", "b"].map(|id| bench.bind(id, 1));
    for topics in [["1", "2"], ["3", "4"]] {
        keys.iter().zip(topics).for_each(|(key, topic)| bench.events(*key, &[topic], &WITH_HISTORY));
    }
    assert_eq!(bench.read(None, Cursor::behind(0)), ["a/1", "b/2", "a/3", "b/4"]);
    assert_eq!(bench.read(None, Cursor::behind(2)), ["a/3", "b/4"]);
    // One router's events push out its own; what is left of the other is still there behind the gap.
    bench.events(keys[1], &["5", "6", "7", "8"], &WITH_HISTORY);
    assert_eq!(bench.read(None, Cursor::behind(0)), ["gap", "a/1", "a/3", "b/5", "b/6", "b/7", "b/8"]);
    assert_eq!(bench.read(None, Cursor::behind(4)), ["b/5", "b/6", "b/7", "b/8"]);
    assert_eq!(bench.read(Some("a"), Cursor::behind(0)), ["a/1", "a/3"]);
}

#[test]
fn a_gap_is_told_once_until_the_reader_has_passed_it() {
    let mut bench = Bench::new();
    let keys = ["quiet", "noisy"].map(|id| bench.bind(id, 1));
    bench.events(keys[0], &["1", "2"], &WITH_HISTORY);
    bench.events(keys[1], &["3", "4", "5", "6", "7"], &WITH_HISTORY);
    let mut cursor = Cursor::behind(0);
    assert!(matches!(bench.shadows.read(None, &mut cursor), Read::Gap(3)));
    assert!(matches!(bench.shadows.read(None, &mut cursor), Read::Event(_, event) if event.number == 1));
    // More is lost ahead of the reader: it is told there.
    bench.events(keys[1], &["8", "9", "10"], &WITH_HISTORY);
    assert_eq!(bench.read(None, cursor), ["quiet/2", "gap", "noisy/7", "noisy/8", "noisy/9", "noisy/10"]);
}

#[test]
fn what_is_forgotten_is_lost() {
    let mut bench = Bench::new();
    let (a, b) = (bench.bind("a", 1), bench.bind("b", 1));
    bench.events(a, &["1", "2"], &WITH_HISTORY);
    bench.events(b, &["3"], &WITH_HISTORY);
    let epoch = format!("{:016x}", bench.shadows.get(a).epoch);
    assert!(bench.shadows.has_been("a", &epoch, 2) && !bench.shadows.has_been("a", &epoch, 3));
    assert_eq!(bench.shadows.resume("a", 1), Some(Cursor::behind(1)));
    assert_eq!(bench.shadows.resume("a", 2), Some(Cursor::behind(3)));
    bench.shadows.forget("a", &mut bench.mint);
    bench.shadows.recount().unwrap();
    assert!(
        !bench.shadows.has_been("a", &epoch, 2)
            && bench.shadows.has_been("b", &format!("{:016x}", bench.shadows.get(b).epoch), 0)
    );
    assert_eq!(bench.read(Some("a"), Cursor::behind(1)), ["gap"]);
    assert_eq!(bench.read(None, Cursor::behind(1)), ["gap", "b/3"]);
    assert_eq!(bench.read(None, Cursor::behind(2)), ["b/3"]);
    // With the shadow itself gone, and with a new one of the same name.
    bench.shadows.unbind(b, token(1), Time(0), &ShadowSettings { keep: Duration::ZERO, ..WITH_HISTORY });
    bench.shadows.recount().unwrap();
    assert_eq!(bench.read(Some("b"), Cursor::behind(2)), ["gap"]);
    bench.bind("b", 2);
    assert_eq!(bench.read(Some("b"), Cursor::behind(2)), ["gap"]);
    assert_eq!(bench.read(Some("b"), Cursor::behind(3)), Vec::<String>::new());
}

#[test]
fn the_sum_of_all_shadows_takes_the_oldest_events_first_and_then_the_longest_gone() {
    let room = 3 * (SHADOW_BYTES + 1) + 2 * (EVENT_BYTES + 5);
    let limits = ShadowSettings { max_total_bytes: room, ..WITH_HISTORY };
    let mut bench = Bench::new();
    let keys = ["a", "b", "c"].map(|id| bench.bind(id, 1));
    bench.shadows.unbind(keys[0], token(1), Time(0), &limits);
    bench.events(keys[1], &["1"], &limits);
    bench.events(keys[2], &["2", "3"], &limits);
    assert_eq!(
        (bench.read(None, Cursor::behind(1)), bench.shadows.len()),
        (vec!["c/2".into(), "c/3".into()], 3)
    );
    // A retained value is worth more than events, and a router that is there more than one that has gone.
    bench.retain(keys[2], "t", &[0; 90], &limits);
    assert_eq!((bench.shadows.remembered(), bench.shadows.len()), (0, 3));
    bench.retain(keys[1], "t", &[0; 90], &limits);
    assert_eq!((bench.shadows.find("a"), bench.shadows.len()), (None, 2));
    assert_eq!(bench.shadows.unkept, 0);
    assert!(bench.shadows.bytes() <= room);
}

#[test]
fn a_fleet_that_went_together_is_forgotten_in_steps() {
    let limits = ShadowSettings { max_offline: 1000, ..WITH_HISTORY };
    let mut bench = Bench::new();
    for number in 0..200 {
        let (key, _) = bench.shadows.bind(&number.to_string(), token(1), &mut bench.mint, &limits);
        bench.events(key, &["1"], &limits);
        bench.shadows.unbind(key, token(1), Time(7), &limits);
    }
    bench.shadows.expire(Time(7) + limits.keep, limits.keep);
    assert_eq!(bench.shadows.len(), 200 - EXPIRED_AT_ONCE);
    assert_eq!(bench.shadows.next_expiry(limits.keep), Some(Time(7) + limits.keep));
    bench.shadows.expire(Time(7) + limits.keep, limits.keep);
    bench.shadows.recount().unwrap();
    assert!(bench.shadows.is_empty() && bench.shadows.remembered() == 0);
}
