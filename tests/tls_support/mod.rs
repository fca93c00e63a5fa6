//! Certificates made for a test, and a relay of a few lines, over TLS or not, that does exactly what the test says.
#![allow(dead_code)] // Each test file uses a part of it.

use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};
use switchboard::client::{Address, Client, Closed, Envelope, Event};
use switchboard::wire::control::{Body, Hello, Ping, Pong, Welcome};
use switchboard::wire::{HEADER_BYTES, Header, Id, LENGTH_BYTES, Type};

/// The bound of every wait: long enough for the slowest machine, so no test that passes waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const DAY: Duration = Duration::from_hours(24);
pub(crate) const ME: Id = Id::client(1, 1);
pub(crate) const OTHER: Id = Id::client(2, 2);

/// A certificate and its key.
pub(crate) struct Pair {
    params: CertificateParams,
    key: KeyPair,
    pub(crate) certificate: rcgen::Certificate,
}

/// What a test wants of a certificate that is not the usual.
pub(crate) type Change = fn(&mut CertificateParams);

pub(crate) fn usual(_: &mut CertificateParams) {}

/// An authority, which openssl makes of every self-signed certificate.
pub(crate) fn authority(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
}

pub(crate) fn client(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
}

pub(crate) fn expired(params: &mut CertificateParams) {
    params.not_before = (SystemTime::now() - 40 * DAY).into();
    params.not_after = (SystemTime::now() - 10 * DAY - DAY / 2).into();
}

pub(crate) fn of_tomorrow(params: &mut CertificateParams) {
    params.not_before = (SystemTime::now() + DAY).into();
}

pub(crate) fn nameless(params: &mut CertificateParams) {
    params.subject_alt_names.clear();
}

/// So soon that a test can wait for its end, and not before the relay has started.
pub(crate) fn of_a_moment(params: &mut CertificateParams) {
    params.not_after = (SystemTime::now() + Duration::from_secs(5)).into();
}

fn params(name: &str, names: &[&str], change: Change) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + 30 * DAY).into();
    params.is_ca = IsCa::ExplicitNoCa;
    change(&mut params);
    params
}

impl Pair {
    /// A certificate that vouches for itself.
    pub(crate) fn self_signed(names: &[&str], change: Change) -> Self {
        let params = params("a relay", names, change);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        Self { params, key, certificate }
    }

    pub(crate) fn authority(name: &str) -> Self {
        let params = params(name, &[], authority);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        Self { params, key, certificate }
    }

    /// A certificate that this one signs, whether it may or not.
    pub(crate) fn sign(&self, name: &str, names: &[&str], change: Change) -> Self {
        let params = params(name, names, change);
        let key = KeyPair::generate().expect("a key");
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).expect("signed");
        Self { params, key, certificate }
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key")
    }

    /// The key as a file has it (PEM).
    pub(crate) fn key_text(&self) -> String {
        self.key.serialize_pem()
    }

    /// Leaves both in a folder as `NAME.pem` and `NAME-key.pem`.
    pub(crate) fn save(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}-key.pem")));
        std::fs::write(&certificate, self.certificate.pem()).expect("written");
        std::fs::write(&key, self.key_text()).expect("written");
        (certificate, key)
    }
}

/// How a relay of a test speaks TLS.
pub(crate) struct Style {
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    pub(crate) protocols: Vec<&'static [u8]>,
    /// Clients need a certificate that this authority has signed.
    pub(crate) clients: Option<CertificateDer<'static>>,
}

impl Default for Style {
    fn default() -> Self {
        Self { versions: rustls::ALL_VERSIONS.to_vec(), protocols: vec![b"switchboard/1"], clients: None }
    }
}

impl Style {
    pub(crate) fn config(&self, pair: &Pair) -> Arc<ServerConfig> {
        self.config_of(pair.chain(), pair.key())
    }

    pub(crate) fn config_of(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Arc<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions)
            .expect("versions");
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.clone()).expect("an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let mut config = builder.with_single_cert(chain, key).expect("a pair");
        config.alpn_protocols = self.protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

/// A stream that sends what it is given in pieces of so many bytes, each in a segment of its own.
pub(crate) struct Pieces {
    pub(crate) stream: TcpStream,
    pub(crate) bytes: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(&bytes[..bytes.len().min(self.bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices.iter().find(|slice| !slice.is_empty()) {
            Some(first) if self.bytes < usize::MAX => self.write(first),
            _ => self.stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The relay's end of one connection.
pub(crate) struct Line(pub(crate) StreamOwned<ServerConnection, Pieces>);

/// Frames over any stream.
pub(crate) trait Frames {
    fn stream(&mut self) -> &mut (impl Read + Write);

    fn frame(&mut self) -> (Header, Vec<u8>) {
        self.try_frame().expect("a frame")
    }

    fn try_frame(&mut self) -> io::Result<(Header, Vec<u8>)> {
        let mut frame = vec![0; HEADER_BYTES];
        self.stream().read_exact(&mut frame[..LENGTH_BYTES])?;
        let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        frame.resize(LENGTH_BYTES + length, 0);
        self.stream().read_exact(&mut frame[LENGTH_BYTES..])?;
        Ok((Header::read(&frame), frame.split_off(HEADER_BYTES)))
    }

    fn say<'a>(&mut self, header: Header, body: &impl Body<'a>) {
        let mut frame = Vec::new();
        body.write_frame(header, &mut frame);
        self.stream().write_all(&frame).expect("sent");
    }

    fn say_payload(&mut self, header: Header, payload: &[u8]) {
        let mut frame = Vec::new();
        header.write_frame(&mut frame, |out| out.extend_from_slice(payload));
        self.stream().write_all(&frame).expect("sent");
    }

    /// Takes the HELLO and welcomes.
    fn welcome(&mut self) {
        let (header, payload) = self.frame();
        Hello::parse(&payload).expect("a HELLO");
        self.welcome_to(header);
    }

    /// Answers a HELLO that was read.
    fn welcome_to(&mut self, hello: Header) {
        self.say(Header::new(Type::Welcome).correlating(hello.correlation), &welcome());
    }
}

impl Frames for Line {
    fn stream(&mut self) -> &mut (impl Read + Write) {
        &mut self.0
    }
}

impl Frames for TcpStream {
    fn stream(&mut self) -> &mut (impl Read + Write) {
        self
    }
}

impl Line {
    /// Says that nothing more comes.
    pub(crate) fn say_end(&mut self) {
        self.0.conn.send_close_notify();
        let _ = self.0.flush();
    }
}

pub(crate) fn welcome() -> Welcome<'static> {
    let mut payload = Vec::new();
    // As one that is read, so that fields which are of no matter here need not be named.
    for (tag, value) in [(0x1001_u16, 1_u64), (0x1002, ME.bits()), (0x1003, 1 << 20)] {
        payload.extend(tag.to_be_bytes());
        payload.extend(8_u16.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    Welcome::parse(payload.leak()).expect("a WELCOME")
}

/// Frames in a flood, of a size that fills all buffers on their way.
const FLOOD_FRAMES: u32 = 400;
const FLOOD_PAYLOAD_BYTES: usize = 60_000;

/// The relay's end of a flood both ways: it reads nothing until the client has read all this, one PING among it.
pub(crate) fn flood(line: &mut impl Frames) {
    line.say(Header::new(Type::Ping).correlating(9), &Ping { clock_us: Some(1) });
    for _ in 0..FLOOD_FRAMES {
        line.say_payload(Header { source: OTHER, ..Header::new(Type::Send).to(ME) }, &vec![5; FLOOD_PAYLOAD_BYTES]);
    }
    let (mut frames, mut pongs) = (0, 0);
    while frames < FLOOD_FRAMES || pongs < 1 {
        let (header, payload) = line.frame();
        match header.frame_type() {
            Some(Type::Pong) => {
                assert_eq!(Pong::parse(&payload).expect("a PONG").ping_clock_us, Some(1));
                pongs += 1;
            }
            _ => frames += 1,
        }
    }
}

/// The client's end: it sends as much as it gets, at the same time.
pub(crate) fn check_flooded(client: Client) {
    let (sender, mut receiver) = client.split();
    let sending = thread::spawn(move || {
        for _ in 0..FLOOD_FRAMES {
            sender.send(OTHER, Envelope::bytes(), &vec![6; FLOOD_PAYLOAD_BYTES]).expect("sent");
        }
    });
    for _ in 0..FLOOD_FRAMES {
        assert!(matches!(receiver.recv(), Event::Message(_)));
    }
    assert!(matches!(receiver.recv(), Event::Closed(Closed::Ended)));
    sending.join().expect("all sent");
}

/// Runs `relay` on the first connection to a port of its own, and gives the port.
pub(crate) fn listen(run: impl FnOnce(TcpStream) + Send + 'static) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let handle = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        run(stream);
    });
    (port, handle)
}

/// The same over TLS. The handshake happens as it is needed.
pub(crate) fn listen_tls(
    config: Arc<ServerConfig>,
    piece_bytes: usize,
    run: impl FnOnce(Line) + Send + 'static,
) -> (u16, JoinHandle<()>) {
    listen(move |stream| {
        let connection = ServerConnection::new(config).expect("a configuration");
        run(Line(StreamOwned::new(connection, Pieces { stream, bytes: piece_bytes })));
    })
}

/// The next connection to a port.
pub(crate) fn accept(listener: &TcpListener, config: &Arc<ServerConfig>) -> Line {
    let (stream, _) = listener.accept().expect("a client");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let connection = ServerConnection::new(Arc::clone(config)).expect("a configuration");
    Line(StreamOwned::new(connection, Pieces { stream, bytes: usize::MAX }))
}

/// The address of a port at the host that all certificates here are for.
pub(crate) fn at(port: u16) -> Address {
    Address::Tls { host: "localhost".into(), port }
}
