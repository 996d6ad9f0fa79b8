//! The classes that hold memory.

use crate::id::Class;

/// The classes of SPEC section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Holder {
    Router,
    Http,
    App,
    Page,
    Listener,
    PendingCommand,
    Subscription,
    Stream,
    Timer,
    Shadow,
    QueuedFrame,
    Log,
    Other,
}

impl Holder {
    pub const ALL: [Holder; 13] = [
        Holder::Router,
        Holder::Http,
        Holder::App,
        Holder::Page,
        Holder::Listener,
        Holder::PendingCommand,
        Holder::Subscription,
        Holder::Stream,
        Holder::Timer,
        Holder::Shadow,
        Holder::QueuedFrame,
        Holder::Log,
        Holder::Other,
    ];

    /// Its name in the census.
    pub fn name(self) -> &'static str {
        match self {
            Holder::Router => "router",
            Holder::Http => "http",
            Holder::App => "app",
            Holder::Page => "page",
            Holder::Listener => "listener",
            Holder::PendingCommand => "pending_command",
            Holder::Subscription => "subscription",
            Holder::Stream => "stream",
            Holder::Timer => "timer",
            Holder::Shadow => "shadow",
            Holder::QueuedFrame => "queued_frame",
            Holder::Log => "log",
            Holder::Other => "other",
        }
    }

    /// Whether it is a class of connections, each of which has an account of its own.
    pub fn is_connection(self) -> bool {
        matches!(self, Holder::Router | Holder::Http | Holder::App | Holder::Page)
    }
}

impl From<Class> for Holder {
    fn from(class: Class) -> Self {
        match class {
            Class::Router => Holder::Router,
            Class::Http => Holder::Http,
            Class::App => Holder::App,
            Class::Page => Holder::Page,
        }
    }
}
