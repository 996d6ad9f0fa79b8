//! What the kernel says of the daemon, whatever the daemon says of itself.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    pub rss: u64,
    /// The part that is not backed by files: the heap and the stack.
    pub anonymous: u64,
    /// The most that was ever resident.
    pub peak: u64,
}

/// # Errors
/// No such process.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    Ok(Memory { rss: field("VmRSS:"), anonymous: field("RssAnon:"), peak: field("VmHWM:") })
}

/// Open descriptors of the process.
///
/// # Errors
/// No such process, or it is not ours to look into.
pub fn descriptors(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Threads of the process.
///
/// # Errors
/// No such process.
pub fn threads(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count())
}

/// CPU time of the process's main thread in nanoseconds, user and system. The scheduler's own account is exact;
/// `/proc/PID/stat` would count in hundredths of a second.
///
/// # Errors
/// No such process, or a kernel without CONFIG_SCHED_INFO.
pub fn cpu_ns(pid: u32) -> io::Result<u64> {
    let schedstat = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let first = schedstat.split_whitespace().next().and_then(|field| field.parse().ok());
    first.ok_or_else(|| io::Error::other("an empty schedstat"))
}

/// One line of `/proc/net/tcp`.
struct Socket {
    local: Option<SocketAddr>,
    local_port: u16,
    state: u8,
    inode: u64,
}

const ESTABLISHED: u8 = 0x01;
const LISTEN: u8 = 0x0A;

fn parse_socket(line: &str) -> Option<Socket> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let (address, port) = local.rsplit_once(':')?;
    let local_port = u16::from_str_radix(port, 16).ok()?;
    Some(Socket {
        local: parse_address(address).map(|address| SocketAddr::new(address, local_port)),
        local_port,
        state: u8::from_str_radix(state, 16).ok()?,
        inode: inode.parse().ok()?,
    })
}

/// An address as the kernel prints it: words of 32 bits in the machine's own byte order.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            Some(IpAddr::from(<[u8; 16]>::try_from(words.concat()).ok()?))
        }
        _ => None,
    }
}

fn sockets() -> Vec<Socket> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1).filter_map(parse_socket)).collect()
}

/// Established connections whose near end is one of `ports`, in their order: the daemon's own ends.
pub fn established<const N: usize>(ports: [u16; N]) -> [usize; N] {
    let sockets = sockets();
    ports.map(|port| sockets.iter().filter(|s| s.state == ESTABLISHED && s.local_port == port).count())
}

/// Established connections whose near end is one of `listeners`. The port alone would not do: a client may have the same
/// one on another address of the loopback.
pub fn established_on(listeners: &[SocketAddr]) -> u64 {
    let near = |s: &Socket| s.state == ESTABLISHED && s.local.is_some_and(|local| listeners.contains(&local));
    sockets().iter().filter(|socket| near(socket)).count() as u64
}

/// The process that listens on `port`, if we may look into it.
pub fn listener_of(port: u16) -> Option<u32> {
    let inode = sockets().into_iter().find(|s| s.state == LISTEN && s.local_port == port)?.inode;
    let wanted = format!("socket:[{inode}]");
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.into_iter().find(|pid: &u32| {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        descriptors
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn we_find_ourselves() {
        let me = std::process::id();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(listener_of(port), Some(me));
        assert_eq!(established([port]), [0]);
        let _near = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _far = listener.accept().unwrap();
        assert_eq!(established([port]), [1]);
        assert_eq!(established_on(&[listener.local_addr().unwrap()]), 1);
        assert_eq!(established_on(&[SocketAddr::from(([127, 0, 0, 2], port))]), 0);
        assert!(memory(me).unwrap().rss > memory(me).unwrap().anonymous);
        assert!(descriptors(me).unwrap() > 3);
        assert!(threads(me).unwrap() >= 1);
        assert!(cpu_ns(me).is_ok());
    }

    #[test]
    fn a_line_of_the_kernel_is_understood() {
        let line = "  15: 0100007F:1B58 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0";
        let socket = parse_socket(line).unwrap();
        assert_eq!((socket.local_port, socket.state, socket.inode), (7000, ESTABLISHED, 4242));
        assert_eq!(socket.local, Some("127.0.0.1:7000".parse().unwrap()));
        assert!(parse_socket("rubbish").is_none());
        let mapped = parse_address("0000000000000000FFFF00000100007F").unwrap();
        assert_eq!(mapped, "::ffff:127.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(parse_address("00000000000000000000000001000000"), Some("::1".parse().unwrap()));
    }
}
