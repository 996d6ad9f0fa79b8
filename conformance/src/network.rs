//! Two network namespaces joined by a cable: the daemon on one side, routers on the other, and the cable can be cut.
//!
//! In open mode the daemon listens on loopback only. `route_localnet` lets the router side reach its 127.0.0.1 over the
//! cable, so that a death is as silent as in the field: no FIN, no RST, and what is sent into it stays unacknowledged.

use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::daemon::{Daemon, Launch};
use crate::kernel::run;

/// Dropping it takes the namespaces away.
#[derive(Debug)]
pub struct Network {
    daemon_side: String,
    router_side: String,
}

impl Network {
    /// Needs root (CAP_NET_ADMIN, CAP_SYS_ADMIN) and iproute2, and panics without them.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::geteuid().is_root(), "silent deaths need root, for network namespaces");
        let unique = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let network =
            Self { daemon_side: format!("berth-d-{unique}"), router_side: format!("berth-r-{unique}") };
        let (daemon, router) = (network.daemon_side.as_str(), network.router_side.as_str());
        ip(&["netns", "add", daemon]);
        ip(&["netns", "add", router]);
        ip(&["-n", daemon, "link", "set", "lo", "up"]);
        ip(&["-n", daemon, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", router]);
        for (side, address) in [(daemon, "10.9.0.1/24"), (router, "10.9.0.2/24")] {
            ip(&["-n", side, "addr", "add", address, "dev", "cable"]);
            let allow = "echo 1 > /proc/sys/net/ipv4/conf/cable/route_localnet";
            ip(&["netns", "exec", side, "sh", "-c", allow]);
            ip(&["-n", side, "link", "set", "cable", "up"]);
        }
        ip(&["-n", router, "route", "add", "127.0.0.0/8", "dev", "cable", "src", "10.9.0.2"]);
        network
    }

    /// Starts a daemon on its side.
    pub fn start(&self, config: &str) -> Daemon {
        Launch::new(config).wrapper(&["ip", "netns", "exec", &self.daemon_side]).start()
    }

    /// Runs on the daemon's side, from where its HTTP can be reached whatever happens to the cable.
    pub fn on_daemon_side<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        within(&self.daemon_side, run)
    }

    /// Runs on the routers' side.
    pub fn on_router_side<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        within(&self.router_side, run)
    }

    /// From now on everything that the router side sends vanishes, its kernel's acknowledgements too.
    pub fn silence_router_side(&self) {
        ip(&["-n", &self.router_side, "route", "replace", "blackhole", "127.0.0.1/32"]);
    }

    /// Pulls the cable out, so that the daemon's kernel finds no neighbour any more.
    pub fn pull_cable(&self) {
        ip(&["-n", &self.router_side, "link", "set", "cable", "down"]);
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for side in [&self.daemon_side, &self.router_side] {
            // One that could not be made cannot be taken away.
            let _ = std::process::Command::new("ip").args(["netns", "del", side]).status();
        }
    }
}

/// The sockets of a thread are made in its network namespace; threads that it starts are in the same one.
fn within<T: Send>(namespace: &str, run: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).expect("the network namespace");
    let result = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let only = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), only).expect("setns needs root");
            run()
        });
        thread.join()
    });
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn ip(arguments: &[&str]) {
    run("ip", arguments);
}
