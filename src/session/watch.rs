//! A caller that watches events: an answer without an end.

use crate::clock::Time;
use crate::core::hub::OfClient;
use crate::core::shadows::Cursor;

#[derive(Debug)]
pub struct Watch {
    /// The one subscription that its events come by.
    pub subscriptions: OfClient,
    /// While it reads what it has missed.
    pub reading: Option<Cursor>,
    /// When something was last queued for it, or would have been had it taken what was there.
    pub told_at: Time,
}
