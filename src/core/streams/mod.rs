//! Streams: big results that a router sends row by row, and a consumer takes at its own pace (SPEC section 1, Streams). An
//! entry is one answer, from the request to its end, over as many OPENs as that takes.

mod gatherer;
mod stream;
mod table;

pub use gatherer::{Gatherer, Misfit, Window};
pub use stream::{Format, Opening, Stream};
pub use table::{Acks, NewStream, OfRouter, Streams};
