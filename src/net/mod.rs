//! Listeners, sockets and their options: the only floor that touches the network.

pub mod listener;
pub mod sock_diag;
pub mod tcp;
pub mod transport;
