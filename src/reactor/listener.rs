//! Listening sockets: binding them, and accepting without ever spinning.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::warn;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::{PeerAddr, Stream};
use crate::time::Time;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An address and port; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket at this path. What is left over from a process that has gone is replaced.
    Unix(PathBuf),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How the sockets of a listener are set up.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// Connections that the system completes and keeps until they are accepted. 4,096 is what Linux allows
    /// at most by default; a storm fills it.
    pub backlog: i32,
    /// Time after which unacknowledged bytes end a connection (`TCP_USER_TIMEOUT`, Linux). It finds a cable
    /// that was pulled before a write deadline does.
    pub user_timeout: Option<Duration>,
    /// Bytes that the system takes for a connection beyond those on their way (`TCP_NOTSENT_LOWAT`, Linux).
    /// What a slow reader has not got then waits in its queue, where limits and deadlines apply, and not in
    /// megabytes of the system's buffers in front of a PING.
    pub unsent_bytes_max: Option<u32>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self { backlog: 4096, user_timeout: Some(Duration::from_secs(30)), unsent_bytes_max: Some(128 * 1024) }
    }
}

#[derive(Debug)]
enum Socketed {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener, SocketFile),
}

/// A socket that accepts connections.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Socketed,
    /// Where it really listens, with the port that the system chose.
    pub(super) endpoint: Endpoint,
    /// Connections may be waiting.
    pub(super) pending: bool,
    /// It rests until then, because the system refused to accept.
    pub(super) retry_at: Option<Time>,
}

impl Listener {
    pub(super) fn bind(endpoint: &Endpoint, options: SocketOptions) -> io::Result<Self> {
        warn_if_capped(options.backlog);
        let (socket, endpoint) = match endpoint {
            Endpoint::Tcp(address) => {
                let listener = bind_tcp(*address, options)?;
                let endpoint = Endpoint::Tcp(listener.local_addr()?);
                (Socketed::Tcp(listener), endpoint)
            }
            Endpoint::Unix(path) => {
                let (listener, file) = bind_unix(path, options)?;
                (Socketed::Unix(listener, file), endpoint.clone())
            }
        };
        Ok(Self { socket, endpoint, pending: true, retry_at: None })
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.socket {
            Socketed::Tcp(listener) => registry.register(listener, token, Interest::READABLE),
            Socketed::Unix(listener, _) => registry.register(listener, token, Interest::READABLE),
        }
    }

    pub(super) fn accept(&self) -> io::Result<(Stream, PeerAddr)> {
        match &self.socket {
            Socketed::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                // Linux copies the option from the listener.
                #[cfg(not(target_os = "linux"))]
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), PeerAddr::from(peer)))
            }
            Socketed::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                Ok((Stream::Unix(stream), PeerAddr::UNIX))
            }
        }
    }
}

/// The file of a Unix socket, which is removed in the end: but only this one, and not that of a successor
/// that has taken the path in the meantime.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode. The inode cannot be another file's as long as the socket is open, and the socket is
    /// closed after this.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    /// The file at `path`, which has just been bound.
    fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), identity: Self::identity(path) }
    }

    fn identity(path: &Path) -> Option<(u64, u64)> {
        let metadata = std::fs::symlink_metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    }

    fn remove(&self) {
        if self.identity.is_some() && Self::identity(&self.path) == self.identity {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socketed::Unix(_, file) = &self.socket {
            file.remove();
        }
    }
}

fn bind_tcp(address: SocketAddr, options: SocketOptions) -> io::Result<mio::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // An IPv6 wildcard does not take the IPv4 port: both can be listened on side by side.
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for connections of the process before it to time out.
    socket.set_reuse_address(true)?;
    // Accepted sockets have these from the start, which saves two calls for each.
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    #[cfg(target_os = "linux")]
    if let Some(bytes) = options.unsent_bytes_max {
        socket.set_tcp_notsent_lowat(bytes)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(mio::net::TcpListener::from_std(socket.into()))
}

fn bind_unix(path: &Path, options: SocketOptions) -> io::Result<(mio::net::UnixListener, SocketFile)> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket {
        // Only a refusal proves that nobody is there: a listener that is overloaded, or a socket of another
        // kind or owner, answers otherwise. The probe must not wait for one that hangs.
        let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        probe.set_nonblocking(true)?;
        match probe.connect(&socket2::SockAddr::unix(path)?) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    let file = SocketFile::at(path);
    socket.listen(options.backlog)?;
    let listener = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(socket));
    Ok((mio::net::UnixListener::from_std(listener), file))
}

/// The system cuts a backlog down in silence; then a storm loses connections that nobody counts.
fn warn_if_capped(backlog: i32) {
    use std::sync::Once;
    static ONCE: Once = Once::new();
    let Ok(text) = std::fs::read_to_string("/proc/sys/net/core/somaxconn") else { return };
    if let Ok(cap) = text.trim().parse::<i32>()
        && cap < backlog
    {
        ONCE.call_once(|| {
            warn!("the system caps the listen backlog of {backlog} at {cap}: raise it with sysctl net.core.somaxconn={backlog}");
        });
    }
}

/// A descriptor kept for the moment when there is no other.
///
/// With it given back for an instant, a waiting connection can be accepted, told why, and closed: else it
/// would stay in the backlog, and its peer would wait for nothing.
#[derive(Debug)]
pub(super) struct Reserve(Option<File>);

impl Reserve {
    pub(super) fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    pub(super) fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }

    pub(super) fn take_back(&mut self) -> bool {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
        self.0.is_some()
    }
}

/// Whether an error of accept means that there is no file descriptor, in the process or in the system.
pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Whether an error of accept concerns only the connection that it would have returned: accept(2) passes
/// pending network errors of the new socket on, and asks to treat them like `EAGAIN`.
pub(super) fn concerns_one_connection(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::INTR
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
                | Errno::PERM
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn accepted_sockets_have_the_options_of_their_listener() {
        let address = "127.0.0.1:0".parse().expect("an address");
        for user_timeout in [None, Some(Duration::from_secs(7))] {
            let options = SocketOptions { user_timeout, ..SocketOptions::default() };
            let listener = Listener::bind(&Endpoint::Tcp(address), options).expect("a port");
            let Endpoint::Tcp(bound) = listener.endpoint else { panic!("TCP was asked for") };
            let client = std::net::TcpStream::connect(bound).expect("it listens");
            let (Stream::Tcp(stream), peer) = listener.accept().expect("it has come") else {
                panic!("TCP was asked for")
            };
            assert_eq!(peer.socket_addr(), client.local_addr().ok());
            let socket = socket2::SockRef::from(&stream);
            assert!(socket.tcp_nodelay().expect("a socket"));
            assert_eq!(socket.tcp_user_timeout().expect("a socket"), user_timeout);
            assert!(socket.nonblocking().expect("a socket"));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_does_not_take_more_for_a_reader_than_it_is_told() {
        use std::io::Write;
        let endpoint = Endpoint::Tcp("127.0.0.1:0".parse().expect("an address"));
        let options = SocketOptions { unsent_bytes_max: Some(128 * 1024), ..SocketOptions::default() };
        let listener = Listener::bind(&endpoint, options).expect("a port");
        let Endpoint::Tcp(bound) = listener.endpoint else { panic!("TCP was asked for") };
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        client.set_recv_buffer_size(16 * 1024).expect("an option");
        client.connect(&bound.into()).expect("it listens");
        let (Stream::Tcp(mut stream), _) = listener.accept().expect("it has come") else { panic!("TCP was asked for") };
        // Nobody reads.
        let mut taken = 0;
        let error = loop {
            match stream.write(&[0; 8 * 1024]) {
                Ok(count) => taken += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        // The receiver's buffer is full, and the segment in which the limit is reached is taken whole.
        assert!(taken < 320 * 1024, "{taken} bytes");
    }
}
