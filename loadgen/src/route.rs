//! How a connection is opened: where to, from which address, with how much room in the kernel.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// The way to the daemon.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub to: SocketAddr,
    /// The near end's address; the kernel's choice if `None`. Its family must be that of `to`.
    pub from: Option<IpAddr>,
    /// `SO_RCVBUF` in bytes: how much the kernel takes for a client that does not read.
    pub receive_buffer: Option<usize>,
    /// `SO_SNDBUF` in bytes: how much stands between a client that writes and its peer.
    pub send_buffer: Option<usize>,
}

impl Route {
    pub fn to(to: SocketAddr) -> Self {
        Self { to, from: None, receive_buffer: None, send_buffer: None }
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// No socket, no such near address, or a connect that fails at once.
    pub fn open(&self) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(address) = self.from {
            socket.bind(&SocketAddr::new(address, 0).into())?;
        }
        match socket.connect(&self.to.into()) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                Err(error)
            }
            _ => Ok(TcpStream::from_std(socket.into())),
        }
    }
}

/// Makes the close of `stream` an RST instead of a FIN.
pub fn reset_on_close(stream: &TcpStream) {
    // Where it fails the close is an ordinary one.
    let _ = SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
}
