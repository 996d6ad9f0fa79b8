use super::*;

const LIMITS: ShadowSettings = ShadowSettings {
    keep: Duration::from_secs(60),
    max_offline: 2,
    max_topics: 2,
    max_bytes: 100,
    max_total_bytes: 10_000,
};

fn token(slot: u32) -> Token {
    Token { slot, generation: 1 }
}

struct Bench {
    shadows: Shadows,
    mint: Mint,
    number: u64,
}

impl Bench {
    fn new() -> Self {
        Self { shadows: Shadows::default(), mint: Mint::new(1), number: 0 }
    }

    fn bind(&mut self, id: &str, slot: u32) -> u32 {
        self.shadows.bind(id, token(slot), &mut self.mint, &LIMITS).0
    }

    fn retain(&mut self, key: u32, topic: &str, body: &[u8], limits: &ShadowSettings) -> u64 {
        self.number += 1;
        let event = Event { topic, body, json: false, retain: true, number: self.number };
        let seq = self.shadows.publish(key, &event, limits);
        self.shadows.recount().unwrap();
        seq
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
