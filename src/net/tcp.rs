//! A TCP connection of the loop.

#![allow(unsafe_code)] // TCP_INFO has no safe wrapper in the libraries that are here anyway: one getsockopt, below

use super::transport::{Info, Transport};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::rc::Rc;

pub struct TcpTransport {
    stream: TcpStream,
    registry: Rc<Registry>,
}

impl TcpTransport {
    /// Both directions at once and edge-triggered: no call is ever made again to change the interest.
    pub fn register(mut stream: TcpStream, registry: Rc<Registry>, token: Token) -> io::Result<Self> {
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, registry })
    }
}

impl Transport for TcpTransport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [one] => self.stream.write(one),
            many => self.stream.write_vectored(many),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    fn take_error(&mut self) -> Option<io::Error> {
        self.stream.take_error().ok().flatten()
    }

    fn info(&self) -> Option<Info> {
        let info = tcp_info(self.stream.as_raw_fd())?;
        Some(Info {
            rtt_us: info.tcpi_rtt,
            retransmits: info.tcpi_total_retrans,
            acked_bytes: info.tcpi_bytes_acked,
            last_ack_ms: info.tcpi_last_ack_recv,
            unanswered: info.tcpi_retransmits.max(info.tcpi_probes),
        })
    }

    /// Deregistering first: with a duplicate descriptor alive somewhere, closing alone would leave ghost events.
    fn close(mut self) {
        let _ = self.registry.deregister(&mut self.stream);
    }
}

/// The head of Linux's `struct tcp_info` (uapi/linux/tcp.h), as far as it is used: newer kernels append to it.
#[repr(C)]
#[derive(Clone, Copy)]
struct TcpInfo {
    tcpi_state: u8,
    tcpi_ca_state: u8,
    tcpi_retransmits: u8,
    tcpi_probes: u8,
    tcpi_backoff_and_options: [u8; 4],
    tcpi_rto: u32,
    tcpi_ato: u32,
    tcpi_snd_mss: u32,
    tcpi_rcv_mss: u32,
    tcpi_unacked: u32,
    tcpi_sacked: u32,
    tcpi_lost: u32,
    tcpi_retrans: u32,
    tcpi_fackets: u32,
    tcpi_last_data_sent: u32,
    tcpi_last_ack_sent: u32,
    tcpi_last_data_recv: u32,
    tcpi_last_ack_recv: u32,
    tcpi_pmtu: u32,
    tcpi_rcv_ssthresh: u32,
    tcpi_rtt: u32,
    tcpi_rttvar: u32,
    tcpi_snd_ssthresh: u32,
    tcpi_snd_cwnd: u32,
    tcpi_advmss: u32,
    tcpi_reordering: u32,
    tcpi_rcv_rtt: u32,
    tcpi_rcv_space: u32,
    tcpi_total_retrans: u32,
    tcpi_pacing_rate: u64,
    tcpi_max_pacing_rate: u64,
    tcpi_bytes_acked: u64,
}

fn tcp_info(fd: std::os::fd::RawFd) -> Option<TcpInfo> {
    let mut info = MaybeUninit::<TcpInfo>::zeroed();
    let mut length = size_of::<TcpInfo>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`, which is that long and was zeroed; every bit pattern is
    // a valid `TcpInfo`.
    let result = unsafe {
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut length)
    };
    // SAFETY: see above.
    (result == 0).then(|| unsafe { info.assume_init() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_what_was_acknowledged() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let before = tcp_info(client.as_raw_fd()).unwrap();
        client.write_all(&[7; 1000]).unwrap();
        peer.read_exact(&mut [0; 1000]).unwrap();
        let acked = || tcp_info(client.as_raw_fd()).unwrap().tcpi_bytes_acked - before.tcpi_bytes_acked;
        // The acknowledgement may be delayed, by 200 ms at most.
        let began = std::time::Instant::now();
        while acked() < 1000 {
            assert!(began.elapsed().as_secs() < 10, "acknowledged {} of 1000 bytes", acked());
            std::thread::yield_now();
        }
        assert_eq!(acked(), 1000);
    }
}
