//! One look at the daemon for the verdict: what each class holds, what explains it, and how much there is to do.

use super::connection::Connection;
use super::engine::Engine;
use crate::id::{Class, Token};
use crate::memory::{ClassSample, Holder, Holdings, Load, Resident, SAMPLE_EVERY, Sample};
use crate::net::transport::Transport;

/// What a connection may hold beside itself and the half messages that are counted: its place in a batch of calls, how far
/// replays have come, the capacity behind a buffer's length.
const CONNECTION_SLACK_BYTES: usize = 1024;
/// An entry of the registry of clients, nodes of its tree half full.
const REGISTRY_ENTRY_BYTES: usize = 64;

impl<T: Transport> Engine<T> {
    /// Takes a sample when one is due.
    pub(super) fn sample(&mut self) {
        let now = self.now.time;
        if self.sampled_at.is_some_and(|at| at + SAMPLE_EVERY > now) {
            return;
        }
        self.sampled_at = Some(now);
        let (resident, holdings) = self.look_at_memory();
        let look = self.look(&resident, &holdings);
        self.history.record(&look);
    }

    /// One look, which costs the same whatever there is.
    pub(super) fn look(&self, resident: &Resident, holdings: &Holdings) -> Sample {
        let classes = Holder::ALL.map(|holder| ClassSample {
            bytes: holdings.of(holder).bytes,
            objects: self.objects(holder).map_or(0, |(_, live)| live as u64),
            explained_bytes: self.explained_bytes(holder) as u64,
            orphaned_bytes: holdings.orphaned(holder),
            strays: self.strays(holder),
        });
        Sample {
            at: self.now.time,
            classes,
            patrol_rounds: self.round.completed(),
            load: self.load(),
            resident_bytes: resident.rss,
            allocated_from_kernel_bytes: resident.allocator,
        }
    }

    /// What should not be there any more: found by the patrol, or an index that does not fit its table.
    pub(super) fn strays(&self, holder: Holder) -> u64 {
        let mismatch = match holder {
            Holder::PendingCommand => self.commands.mismatch(),
            Holder::Stream => self.streams.mismatch(),
            Holder::Other => {
                let clients = self.table.live(Class::App) + self.table.live(Class::Page);
                self.clients.len().saturating_sub(clients) as u64
            }
            _ => 0,
        };
        self.round.strays(holder) + mismatch
    }

    /// What explains memory, and is honest.
    fn load(&self) -> Load {
        Load {
            routers: self.table.live(Class::Router) as u64,
            clients: (self.table.live(Class::App) + self.table.live(Class::Page)) as u64,
            http_connections: self.table.live(Class::Http) as u64,
            requests: self.commands.len() as u64,
            streams: self.streams.len() as u64,
            subscriptions: self.hub.len() as u64,
            shadows: self.shadows.len() as u64,
            remembered_events: self.shadows.remembered() as u64,
            buffered_bytes: self.buffered_bytes() as u64,
        }
    }

    /// An upper bound of what the objects of a class account for, in bytes of heap: more than that is held by nothing that
    /// is known.
    pub fn explained_bytes(&self, holder: Holder) -> usize {
        let connections = |class: Class| {
            let each = size_of::<Connection<T>>() + CONNECTION_SLACK_BYTES;
            self.table.live(class) * each + 2 * self.held_bytes
        };
        match holder {
            Holder::Router => connections(Class::Router),
            Holder::Http => connections(Class::Http),
            Holder::App => connections(Class::App),
            Holder::Page => connections(Class::Page),
            Holder::PendingCommand => self.commands.held_bytes(),
            Holder::Subscription => self.hub.held_bytes(),
            Holder::Timer => self.wheel.held_bytes(),
            Holder::Shadow => self.shadows.held_bytes(),
            Holder::QueuedFrame => self.frames.held_bytes(),
            Holder::Log => crate::ops::log::heap_bytes(),
            Holder::Listener => 0,
            Holder::Stream => self.streams.held_bytes(),
            Holder::Other => {
                let registry = self.clients.len() * REGISTRY_ENTRY_BYTES + self.addresses.capacity_bytes();
                let lists =
                    self.work.capacity_bytes() + self.scratch.watchers.capacity() * size_of::<Token>();
                self.table.capacity_bytes() + lists + registry
            }
        }
    }
}
