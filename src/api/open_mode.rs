//! The rules of open mode for Host and Origin (end of SPEC section 4): without keys, a web page somewhere else must not be
//! able to reach the daemon through its visitor's browser, nor by a name that it has rebound to a local address.

use super::Refusal;
use crate::proto::http::{Head, host_name, is_address_or_localhost, origin_host};

/// A Host that is neither an address nor `localhost` is refused on every listener.
pub fn check_host(head: &Head<'_>) -> Result<(), Refusal> {
    match head.host {
        Some(host) if !is_address_or_localhost(host_name(host)) => {
            Err(Refusal::forbidden("Host: in open mode it is an address or localhost"))
        }
        _ => Ok(()),
    }
}

/// An Origin, if there is one, is of the same host, compared as text without the port.
pub fn check_same_origin(head: &Head<'_>) -> Result<(), Refusal> {
    let Some(origin) = head.origin else { return Ok(()) };
    let same = match (origin_host(origin), head.host) {
        (Some(origin), Some(host)) => origin.eq_ignore_ascii_case(host_name(host)),
        _ => false,
    };
    if same { Ok(()) } else { Err(Refusal::forbidden("Origin: it is of another host than Host")) }
}
