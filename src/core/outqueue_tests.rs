use super::*;
use crate::clock::Time;
use crate::core::commands::{Caller, NewCommand, OfCaller, OfRouter, Request};
use crate::core::message::Message;
use crate::core::wheel::{Due, Wheel};
use crate::id::Token;
use crate::proto::router::{Kind, decode_any};

/// A queue with its tables, and the wire that it writes to.
#[derive(Default)]
struct Bench {
    queue: OutQueue,
    frames: Frames,
    commands: Commands,
    wheel: Wheel,
    of_router: OfRouter,
    of_caller: OfCaller,
    plan: Plan,
    wire: Vec<u8>,
    next_id: u32,
}

const ROUTER: Token = Token { slot: 0, generation: 1 };

impl Bench {
    fn command(&mut self, payload: usize) -> u32 {
        self.next_id += 1;
        let token = self.commands.next_token();
        let timer = self.wheel.set(Time(0), Due::Command(token));
        let new = NewCommand {
            router: ROUTER,
            caller: Caller { connection: ROUTER, request: Request::Http },
            id: self.next_id,
            message: Message::new("cmd", &vec![b'x'; payload], false),
            deadline: Time(0),
        };
        self.commands.insert(token, new, timer, &mut self.of_router, &mut self.of_caller);
        self.queue.push_command(&mut self.commands, token.slot);
        token.slot
    }

    fn one_way(&mut self, id: u32) {
        let header = crate::proto::router::header(Kind::Command, 0, id, 1, 2);
        self.queue.push_user(&mut self.frames, Payload::concat(&[&header, b"nop"]));
    }

    fn open(&mut self, id: u32) {
        let header = crate::proto::router::header(Kind::Open, 0, id, 1, 16);
        self.queue.push_open(&mut self.frames, Payload::concat(&[&header, b"s", &[0; 16]]));
    }

    fn ping(&mut self) {
        self.queue.push_system(
            &mut self.frames,
            Payload::copy(&crate::proto::router::header(Kind::Ping, 0, 0, 0, 0)),
        );
    }

    /// The socket takes at most `room` bytes.
    fn write(&mut self, room: usize) -> usize {
        self.queue.plan(&self.frames, &self.commands, &mut self.plan);
        let wire = &mut self.wire;
        let written = self.plan.with_slices(&self.frames, &self.commands, |slices| {
            let before = wire.len();
            for slice in slices {
                let left = room - (wire.len() - before);
                wire.extend_from_slice(&slice[..slice.len().min(left)]);
            }
            wire.len() - before
        });
        self.queue.commit(&mut self.frames, &mut self.commands, &self.plan, written);
        let (count, bytes) = self.queue.recount(&self.frames, &self.commands);
        assert_eq!((bytes, count), (self.queue.queued_bytes(), self.frames.len()));
        self.frames.recount().unwrap();
        self.commands.recount([]).unwrap();
        written
    }

    fn drain(&mut self) -> Vec<(u8, u32, bool)> {
        while self.write(usize::MAX / 2) > 0 {}
        assert!(self.queue.is_empty() && self.frames.is_empty());
        self.seen()
    }

    /// Kind, id and MORE of every frame on the wire.
    fn seen(&self) -> Vec<(u8, u32, bool)> {
        let mut input = &self.wire[..];
        let mut seen = Vec::new();
        while let Some((kind, flags, id, _, _)) = decode_any(&mut input) {
            seen.push((kind, id, flags & 1 != 0));
        }
        assert!(input.is_empty(), "whole frames only");
        seen
    }
}

const COMMAND: u8 = 0x10;
const PING: u8 = 0x03;
/// Ids of one-way frames, above those of commands, so that their order can be seen on the wire.
const FIRST_ONE_WAY: u32 = 1000;

#[test]
fn awaited_commands_take_turns_and_the_one_way_queue_is_one_of_them() {
    let mut bench = Bench::default();
    for _ in 0..2 {
        bench.command(40_000);
    }
    for id in 100..104 {
        bench.one_way(id);
    }
    let order: Vec<u32> = bench.drain().iter().map(|(_, id, _)| *id).collect();
    assert_eq!(order, [1, 2, 100, 1, 2, 101, 1, 2, 102, 103]);
}

#[test]
fn opens_take_their_turn_once_a_round() {
    let mut bench = Bench::default();
    for _ in 0..2 {
        bench.command(60_000);
    }
    for id in 100..102 {
        bench.one_way(id);
    }
    for id in 200..203 {
        bench.open(id);
    }
    bench.write(1000); // the first fragment is begun
    bench.ping();
    let order: Vec<u32> = bench.drain().iter().map(|(_, id, _)| *id).collect();
    assert_eq!(order, [1, 0, 2, 200, 201, 202, 100, 1, 2, 101, 1, 2, 1, 2]);
}

#[test]
fn an_open_waits_behind_no_long_one_way_command() {
    let mut bench = Bench::default();
    bench.queue.push_one_way(&mut bench.frames, "cmd", LONG, false);
    bench.write(1000);
    bench.open(7);
    let kinds: Vec<u32> = bench.drain().iter().map(|(_, id, _)| *id).collect();
    assert_eq!(kinds, [0, 7, 0, 0]);
}

#[test]
fn an_open_that_was_not_begun_is_taken_back() {
    for withdrawn in [1, 2, 3] {
        let mut bench = Bench::default();
        (1..=3).for_each(|id| bench.open(id));
        assert!(bench.queue.has_open(&bench.frames, withdrawn));
        assert!(bench.queue.withdraw_open(&mut bench.frames, withdrawn));
        assert!(!bench.queue.withdraw_open(&mut bench.frames, withdrawn));
        bench.open(4); // the end of the list is right
        let ids: Vec<u32> = bench.drain().iter().map(|(_, id, _)| *id).collect();
        assert!(ids.iter().copied().eq((1..=4).filter(|id| *id != withdrawn)), "{ids:?}");
    }
    let mut bench = Bench::default();
    bench.open(1);
    bench.write(5);
    assert!(!bench.queue.withdraw_open(&mut bench.frames, 1), "it is begun");
    bench.drain();
}

#[test]
fn acks_of_a_stream_that_has_ended_are_taken_back() {
    let mut bench = Bench::default();
    let ack = |bench: &mut Bench, id| {
        let frame = [&crate::proto::router::header(Kind::Ack, 0, id, 0, 8)[..], &[0; 8]];
        bench.queue.push_system(&mut bench.frames, Payload::concat(&frame));
    };
    for id in [1, 2, 1] {
        ack(&mut bench, id);
    }
    bench.ping();
    bench.queue.withdraw_acks(&mut bench.frames, 1);
    let ids: Vec<u32> = bench.drain().iter().map(|(_, id, _)| *id).collect();
    assert_eq!(ids, [2, 0]);
}

#[test]
fn a_long_queue_of_small_pieces_holds_little_more_than_they_are() {
    let mut bench = Bench::default();
    let mut sent = Vec::new();
    for piece in 0..1500_usize {
        let bytes = vec![piece as u8; 300 + piece % 2000];
        bench.queue.append_user(&mut bench.frames, &[&bytes]);
        sent.extend(bytes);
        if sent.len() > 200_000 && piece % 2 == 0 {
            bench.write(1000);
        }
    }
    let (held, waiting) = (bench.frames.bytes(), bench.queue.queued_bytes());
    assert!(held < waiting + waiting / 64 + 30_000, "{held} bytes for {waiting}");
    bench.frames.recount().unwrap();
    while bench.write(100_000) > 0 {}
    assert!(bench.wire == sent, "in order, all of it");
    assert!(bench.frames.is_empty() && bench.frames.bytes() == 0);
}

#[test]
fn small_pieces_share_a_block_and_large_ones_have_their_own() {
    let mut bench = Bench::default();
    for _ in 0..100 {
        bench.queue.append_user(&mut bench.frames, &[b"0123456789", b"abcdef"]);
    }
    assert_eq!((bench.frames.len(), bench.queue.queued_bytes()), (1, 1600));
    assert_eq!(bench.write(100), 100);
    bench.queue.append_user(&mut bench.frames, &[b"behind what was begun"]);
    bench.queue.append_user(&mut bench.frames, &[&[b'x'; 10_000]]);
    bench.queue.append_user(&mut bench.frames, &[b"y"]);
    assert_eq!(bench.frames.len(), 4);
    while bench.write(777) > 0 {}
    assert_eq!(bench.wire.len(), 1600 + 21 + 10_000 + 1);
    assert!(bench.frames.is_empty() && bench.frames.bytes() == 0);
}

#[test]
fn turns_go_on_where_the_last_write_ended() {
    let mut bench = Bench::default();
    for _ in 0..3 {
        bench.command(33_000);
    }
    // One fragment a write, cut in its middle: the begun one is finished first, then it is the next one's turn.
    while bench.write(10_000) > 0 {}
    let order: Vec<u32> = bench.seen().iter().map(|(_, id, _)| *id).collect();
    assert_eq!(order, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
}

#[test]
fn a_system_frame_waits_behind_the_begun_fragment_only() {
    let mut bench = Bench::default();
    bench.command(100_000);
    bench.command(100_000);
    bench.write(20_000); // the first fragment, and a part of the second
    bench.ping();
    let seen = bench.drain();
    assert_eq!(&seen[..3], [(COMMAND, 1, true), (COMMAND, 2, true), (PING, 0, false)]);
}

#[test]
fn a_withdrawn_command_leaves_only_what_was_begun() {
    let mut bench = Bench::default();
    let (first, second) = (bench.command(50_000), bench.command(50_000));
    bench.write(5_000);
    for command in [first, second] {
        bench.queue.withdraw(&mut bench.commands, command);
        bench.commands.leave_caller(command, &mut bench.of_caller);
        bench.commands.remove(command, &mut bench.of_router);
    }
    assert_eq!(bench.drain(), [(COMMAND, 1, true)]);
}

#[test]
fn last_words_go_behind_what_was_begun() {
    let mut bench = Bench::default();
    bench.one_way(1);
    bench.one_way(2);
    bench.write(5);
    bench.queue.clear(&mut bench.frames);
    bench.ping();
    assert_eq!(bench.drain(), [(COMMAND, 1, false), (PING, 0, false)]);
}

#[test]
fn release_gives_back_what_was_begun_too() {
    let mut bench = Bench::default();
    bench.one_way(1);
    bench.queue.push_replay(&mut bench.frames, Payload::copy(b"retained"));
    bench.write(5);
    bench.queue.push_one_way(&mut bench.frames, "cmd", LONG, false);
    bench.queue.release(&mut bench.frames);
    assert!(bench.frames.is_empty() && bench.queue.is_empty() && bench.frames.bytes() == 0);
}

const LONG: &[u8] = &[b'x'; 40_000];

#[test]
fn fragments_of_a_long_one_way_command_are_one_buffer_until_the_last_has_gone() {
    let mut bench = Bench::default();
    bench.queue.push_one_way(&mut bench.frames, "cmd", LONG, true);
    let wire = 3 * 12 + 3 + LONG.len();
    assert_eq!((bench.queue.queued_bytes(), bench.frames.len()), (wire, 3));
    bench.command(20_000);
    for (room, frames_left) in [(20_000, 3), (30_000, 2), (5_000, 1)] {
        bench.write(room);
        assert_eq!(bench.frames.len(), frames_left);
        assert!(bench.frames.bytes() > wire, "it is held whole");
    }
    assert_eq!(
        bench.drain(),
        [
            (COMMAND, 1, true),
            (COMMAND, 0, true),
            (COMMAND, 1, false),
            (COMMAND, 0, true),
            (COMMAND, 0, false)
        ]
    );
    assert_eq!(bench.frames.bytes(), 0);
}

#[test]
fn a_begun_fragment_does_not_keep_what_is_dropped() {
    let drops: [fn(&mut OutQueue, &mut Frames); 2] = [OutQueue::clear, OutQueue::clear_user];
    for (drop, written) in drops.into_iter().zip([5, 20_000]) {
        let mut bench = Bench::default();
        bench.queue.push_one_way(&mut bench.frames, "cmd", LONG, false);
        bench.queue.push_one_way(&mut bench.frames, "cmd", LONG, false);
        bench.write(written);
        drop(&mut bench.queue, &mut bench.frames);
        assert_eq!(bench.frames.len(), 1);
        assert!(bench.frames.bytes() < 17_000, "one fragment: {} bytes", bench.frames.bytes());
        bench.ping();
        let seen = bench.drain();
        assert_eq!(seen[seen.len() - 2..], [(COMMAND, 0, true), (PING, 0, false)]);
        assert_eq!(bench.frames.bytes(), 0);
    }
}

proptest::proptest! {
    /// Whatever the socket takes, whole frames come out, each message complete and in its order, one-way ones in theirs.
    #[test]
    fn any_cut_of_the_writes_gives_whole_frames(
        sizes in proptest::collection::vec(0usize..60_000, 1..8),
        cuts in proptest::collection::vec(1usize..50_000, 1..40),
    ) {
        let mut bench = Bench::default();
        for (number, size) in sizes.iter().enumerate() {
            bench.command(*size);
            bench.one_way(FIRST_ONE_WAY + number as u32);
        }
        for cut in cuts {
            bench.write(cut);
            bench.ping();
        }
        let seen = bench.drain();
        for id in 1..=sizes.len() as u32 {
            let parts: Vec<bool> = seen.iter().filter(|(kind, of, _)| *kind == COMMAND && *of == id).map(|(.., more)| *more).collect();
            assert_eq!(parts.len(), sizes[id as usize - 1].div_ceil(16_384).max(1));
            assert!(parts.iter().rev().skip(1).all(|more| *more) && !parts[parts.len() - 1]);
        }
        let one_way: Vec<u32> = seen.iter().map(|(_, id, _)| *id).filter(|id| *id >= FIRST_ONE_WAY).collect();
        assert!(one_way.iter().copied().eq(FIRST_ONE_WAY..FIRST_ONE_WAY + sizes.len() as u32), "{one_way:?}");
    }
}
