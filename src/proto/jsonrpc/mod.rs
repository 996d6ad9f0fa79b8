//! JSON-RPC 2.0 as it goes over WebSocket (contract section 4): calls in, answers and events out.
//!
//! JSON that only passes through (ids, bodies) is never parsed into values, only checked.

mod answer;
mod body;
pub mod codes;
mod event;
mod params;
mod request;

pub use answer::{RpcError, write_error, write_result};
pub use body::{Body, body_bytes, body_of, flat_lines, flatten_lines, write_body_member};
pub use event::{EventParams, GAP, Origin, write_event, write_event_params, write_gap};
pub use params::{
    CommandParams, PublishParams, RoutersParams, SubscribeParams, UnsubscribeParams, by_name, even_null,
    params,
};
pub use request::{Call, Incoming, MAX_CALL_ID_BYTES, Refusal, parse};
