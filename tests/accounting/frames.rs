//! Queued frames, first one by one and then as connections queue and write them.

use crate::random::Random;
use crate::{Bench, check};
use berth::core::commands::Commands;
use berth::core::frames::{Fifo, Frames, Payload};
use berth::core::message::Outline;
use berth::core::outqueue::{OutQueue, Plan};
use berth::memory::{Holder, charge, holdings};
use berth::proto::websocket::TextFrame;
use bytes::Bytes;

/// What is charged to any class but that of queued frames: they must not add to it.
fn charged_elsewhere() -> i64 {
    holdings().live_bytes() - holdings().of(Holder::QueuedFrame).bytes
}

#[derive(Default)]
struct FramesBench {
    frames: Frames,
    queues: [Fifo; 4],
}

/// A text message; `capacity` is what was thought to be needed.
fn encoded(len: usize, capacity: usize) -> Bytes {
    let _charge = charge(Holder::QueuedFrame);
    let mut frame = TextFrame::begin(capacity);
    frame.payload().resize(10 + len, b'x');
    frame.finish()
}

impl FramesBench {
    fn push(&mut self, random: &mut Random) {
        let len = random.length();
        let bytes = vec![b'x'; len];
        let payload = match random.below(6) {
            0 => Payload::Static(b"static"),
            1 => Payload::copy(&bytes),
            2 => Payload::concat(&[&[0; 12], b"name", &bytes]),
            3 => Payload::Encoded(encoded(len, 256)),
            4 => return self.share(&encoded(len, len + random.below(70))),
            _ => return self.share_parts(&bytes, random),
        };
        self.queues[random.below(4)].push(&mut self.frames, payload, false);
    }

    fn share(&mut self, event: &Bytes) {
        self.frames.share(event);
        for queue in &mut self.queues[1..] {
            queue.push(&mut self.frames, Payload::shared(event), false);
        }
        self.frames.unshare(event);
    }

    /// In any queues, so that any of them may be the last.
    fn share_parts(&mut self, bytes: &[u8], random: &mut Random) {
        let outline = Outline::new("name", bytes, false);
        let message = outline.encode(0, "name", bytes);
        self.frames.share(&message);
        for range in outline.encoded_ranges() {
            self.queues[random.below(4)].push(&mut self.frames, Payload::part(&message, range), false);
        }
        self.frames.unshare(&message);
    }
}

impl Bench for FramesBench {
    const HOLDER: Holder = Holder::QueuedFrame;

    fn held_bytes(&self) -> usize {
        self.frames.held_bytes()
    }

    fn len(&self) -> usize {
        self.frames.len()
    }

    fn give_back(&mut self) {
        self.frames.give_back();
        self.frames.recount().unwrap();
    }

    fn step(&mut self, random: &mut Random, grow: usize) {
        if random.chance(grow) && self.frames.len() < 400 {
            let elsewhere = charged_elsewhere();
            self.push(random);
            return assert_eq!(charged_elsewhere(), elsewhere);
        }
        let queue = &mut self.queues[random.below(4)];
        if let Some(key) = queue.front().filter(|_| random.chance(10)) {
            self.frames.detach(key);
        }
        for _ in 0..random.below(6) {
            if let Some(key) = queue.take_first(&self.frames) {
                self.frames.remove(key);
            }
        }
    }

    fn remove_all(&mut self) {
        for queue in &mut self.queues {
            queue.clear(&mut self.frames);
        }
    }
}

#[test]
fn queued_frames_explain_what_they_hold() {
    check::<FramesBench>();
}

/// One-way commands to a few routers, whose sockets take what they take.
#[derive(Default)]
struct OneWayBench {
    frames: Frames,
    queues: [OutQueue; 4],
    /// No awaited ones.
    commands: Commands,
    plan: Plan,
}

impl OneWayBench {
    fn write(&mut self, queue: usize, room: usize) {
        let queue = &mut self.queues[queue];
        queue.plan(&self.frames, &self.commands, &mut self.plan);
        let written = self.plan.bytes().min(room);
        queue.commit(&mut self.frames, &mut self.commands, &self.plan, written);
    }
}

impl Bench for OneWayBench {
    const HOLDER: Holder = Holder::QueuedFrame;

    fn held_bytes(&self) -> usize {
        self.frames.held_bytes()
    }

    fn len(&self) -> usize {
        self.frames.len()
    }

    fn give_back(&mut self) {
        self.frames.give_back();
        self.frames.recount().unwrap();
    }

    fn step(&mut self, random: &mut Random, grow: usize) {
        let elsewhere = charged_elsewhere();
        let queue = random.below(4);
        if random.chance(grow) && self.frames.len() < 400 {
            let payload = vec![b'x'; random.length()];
            self.queues[queue].push_one_way(&mut self.frames, "name", &payload, false);
        } else if random.chance(98) {
            // Often in the middle of a fragment.
            let most = if random.chance(15) { 50_000 } else { 300 };
            let room = random.below(most);
            self.write(queue, room);
        } else {
            match random.below(3) {
                0 => self.queues[queue].clear(&mut self.frames),
                1 => self.queues[queue].clear_user(&mut self.frames),
                _ => self.queues[queue].release(&mut self.frames),
            }
        }
        assert_eq!(charged_elsewhere(), elsewhere);
        let queued: usize = self.queues.iter().map(OutQueue::queued_bytes).sum();
        assert!(self.frames.bytes() >= queued);
    }

    fn remove_all(&mut self) {
        for queue in &mut self.queues {
            queue.release(&mut self.frames);
        }
        assert_eq!(self.frames.bytes(), 0);
    }
}

#[test]
fn one_way_commands_explain_what_they_hold() {
    check::<OneWayBench>();
}
