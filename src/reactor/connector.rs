//! Connections that this side makes. They begin without waiting; the poll tells how they went.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::listener::Endpoint;
use super::{PeerAddr, Stream};

/// A socket on its way to its peer.
pub(super) struct Outbound {
    pub(super) stream: Stream,
    pub(super) peer: PeerAddr,
    /// Whether the connection stands already, as it often does within one machine.
    pub(super) stands: bool,
}

/// Begins a connection to `endpoint`, from the address `source` if one is given.
pub(super) fn begin(endpoint: &Endpoint, source: Option<IpAddr>) -> io::Result<Outbound> {
    match endpoint {
        Endpoint::Tcp(address) => begin_tcp(*address, source),
        Endpoint::Unix(path) => {
            let stream = Stream::Unix(mio::net::UnixStream::connect(path)?);
            Ok(Outbound { stream, peer: PeerAddr::UNIX, stands: true })
        }
    }
}

fn begin_tcp(address: SocketAddr, source: Option<IpAddr>) -> io::Result<Outbound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        // The port is chosen when the peer is known. Chosen here it would be this socket's alone, for a minute
        // after its end too, and thousands of those leave no port for anybody who connects from this machine.
        #[cfg(target_os = "linux")]
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    let stands = match socket.connect(&address.into()) {
        Ok(()) => true,
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => false,
        Err(error) => return Err(error),
    };
    let stream = Stream::Tcp(mio::net::TcpStream::from_std(socket.into()));
    Ok(Outbound { stream, peer: address.into(), stands })
}
