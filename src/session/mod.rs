//! One kind of connection each: bytes and time in, what they mean out. A session owns no socket and writes nothing itself;
//! the reactor applies what it says.

pub mod heartbeat;
pub mod http;
pub mod reading;
pub mod router;
pub mod watch;
pub mod websocket;
