//! Listening sockets: every option of SPEC section 2 is set once here and inherited by each accepted connection.

use crate::id::Class;
use crate::limits::{LISTEN_BACKLOG, ListenSettings};
use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

pub struct Listener {
    pub class: Class,
    pub address: SocketAddr,
    socket: TcpListener,
    /// The backlog may hold connections: there was an event, and `WouldBlock` has not been seen since.
    pub ready: bool,
    /// Out of descriptors: no further event comes, so it is tried again by time.
    pub starved: bool,
    /// The cap was met: accepting goes on below nine tenths of it.
    pub full: bool,
}

impl Listener {
    /// Binds and listens; the error says what and where.
    pub fn bind(class: Class, address: SocketAddr, settings: &ListenSettings) -> Result<Self, String> {
        let socket = open(address, settings)
            .map_err(|error| format!("{}: cannot listen on {address}: {error}", class.name()))?;
        let address = socket.local_addr().map_err(|error| error.to_string())?;
        Ok(Self {
            class,
            address,
            socket: TcpListener::from_std(socket),
            ready: false,
            starved: false,
            full: false,
        })
    }

    /// For registering with the poll.
    pub fn source(&mut self) -> &mut TcpListener {
        &mut self.socket
    }

    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.socket.accept()?;
        Ok((stream, SocketAddr::new(peer.ip().to_canonical(), peer.port())))
    }
}

fn open(address: SocketAddr, settings: &ListenSettings) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A restart must not wait for the last run's connections. Not SO_REUSEPORT: a second daemon must fail, not share.
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(settings.keepalive_idle_s.into()))
        .with_interval(Duration::from_secs(settings.keepalive_interval_s.into()))
        .with_retries(settings.keepalive_count);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(settings.user_timeout_s.into())))?;
    if let Some(bytes) = settings.notsent_lowat_bytes {
        socket.set_tcp_notsent_lowat(bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Settings;
    use std::net::TcpStream as StdStream;

    #[test]
    fn accepted_connections_inherit_every_option() {
        let settings = Settings::default().router.listen;
        let listener = Listener::bind(Class::Router, "127.0.0.1:0".parse().unwrap(), &settings).unwrap();
        let _client = StdStream::connect(listener.address).unwrap();
        let began = std::time::Instant::now();
        let (stream, _) = loop {
            match listener.accept() {
                Ok(accepted) => break accepted,
                Err(_) => assert!(began.elapsed().as_secs() < 10, "nothing to accept"),
            }
        };
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(75)));
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), 16_384);
    }

    #[test]
    fn an_address_in_use_is_named() {
        let settings = Settings::default().http.listen;
        let first = Listener::bind(Class::Http, "127.0.0.1:0".parse().unwrap(), &settings).unwrap();
        let error = Listener::bind(Class::Http, first.address, &settings).err().unwrap();
        assert!(error.contains(&first.address.to_string()) && error.starts_with("http"), "{error}");
    }
}
