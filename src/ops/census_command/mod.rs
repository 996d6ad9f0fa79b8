//! `berthd census`: asks the running daemon for its census and prints it, the verdict in words first (SPEC section 7).
//!
//! It runs in a process of its own, so it may block and allocate as it likes.

mod fetch;
mod table;

use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What to print: a table, or with `json` the answer as it came.
///
/// `binds` is `http.bind` of the daemon's configuration; the first one is asked, on loopback if it is all addresses.
///
/// # Errors
/// Text for the operator that names the address and what to check. The caller exits with 1.
pub fn run(binds: &[SocketAddr], json: bool) -> Result<String, String> {
    let address = reachable(*binds.first().ok_or("http.bind: there is no address to ask")?)?;
    let body = fetch::census(address)?;
    let census: Value = serde_json::from_str(&body)
        .map_err(|error| format!("{address} sent a census that is no JSON: {error}"))?;
    Ok(if json { format!("{}\n", body.trim_end()) } else { table::render(&census) })
}

/// The address at which a listener that is bound to `bind` is reached from this machine.
fn reachable(bind: SocketAddr) -> Result<SocketAddr, String> {
    if bind.port() == 0 {
        return Err(format!(
            "http.bind is {bind}: with port 0 the daemon picks one, and says which in its ready line; \
             give that one in a configuration of your own, or ask GET /v1/census of it"
        ));
    }
    let address = match bind.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    Ok(SocketAddr::new(address, bind.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_reached_on_loopback() {
        for (bind, address) in [
            ("0.0.0.0:7080", "127.0.0.1:7080"),
            ("[::]:7080", "[::1]:7080"),
            ("127.0.0.2:80", "127.0.0.2:80"),
            ("192.0.2.1:7080", "192.0.2.1:7080"),
        ] {
            assert_eq!(reachable(bind.parse().unwrap()), Ok(address.parse().unwrap()));
        }
    }

    #[test]
    fn a_port_that_the_daemon_picks_is_not_guessed() {
        assert!(run(&["127.0.0.1:0".parse().unwrap()], false).unwrap_err().contains("ready line"));
        assert!(run(&[], true).is_err());
    }
}
