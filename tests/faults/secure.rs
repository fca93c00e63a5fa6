//! What is done to the relay's TLS: storms, keys that are changed under traffic, records that never end, new keys without
//! end.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion};
use switchboard::wire::control::{Body, Hello, Profile};
use switchboard::wire::{HEADER_BYTES, Header, Id, Type};

use crate::relay::Start;
use crate::scene::{Scene, Size};
use crate::storms::lost_and_back;
use crate::support::{HANG, dial};
use crate::tls;

/// Clients of a storm that are in their handshake at once.
const AT_ONCE: usize = 2000;
/// Time between two reloads, where that is measured: an operator's are days apart.
const RELOAD_PAUSE: Duration = Duration::from_millis(100);

/// Where the keys of this process lie; they go with its folder.
pub(crate) fn certificate() -> PathBuf {
    std::env::temp_dir().join("switchboard-fault-cert.pem")
}

fn key() -> PathBuf {
    std::env::temp_dir().join("switchboard-fault-key.pem")
}

/// Makes a new certificate and its key.
fn make_keys() {
    let pair = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![tls::NAME.to_owned()]).expect("a name");
    let made = params.self_signed(&pair).expect("a certificate");
    std::fs::write(certificate(), made.pem()).expect("a file");
    std::fs::write(key(), pair.serialize_pem()).expect("a file");
}

fn with_tls(more: &[&str]) -> Start {
    make_keys();
    let (certificate, key) = (certificate(), key());
    let files = ["--tls-cert", certificate.to_str().expect("text"), "--tls-key", key.to_str().expect("text")];
    Start::with(&[&["--listen", "tls://127.0.0.1:0"], &files[..], more].concat())
}

pub(crate) fn also_over_tls(_: Size) -> Start {
    with_tls(&[])
}

pub(crate) fn impatient(_: Size) -> Start {
    with_tls(&["--hello-deadline", "1s", "--handshake-deadline", "1s", "--frame-deadline", "1s"])
}

/// A client's configuration that trusts the certificate in this file.
pub(crate) fn config(certificate: &Path, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    tls::trusting(CertificateDer::from_pem_file(certificate).expect("a certificate"), versions)
}

/// A client over TLS.
#[derive(Debug)]
pub(crate) struct TlsClient {
    pub(crate) stream: StreamOwned<ClientConnection, TcpStream>,
    pub(crate) id: Id,
}

impl TlsClient {
    /// Says HELLO behind the beginning of the handshake, and waits for nothing.
    pub(crate) fn greet(address: SocketAddr, config: &Arc<ClientConfig>, name: &str, from: Ipv4Addr) -> Self {
        let mut tls = tls::connect(Arc::clone(config));
        let mut hello = Vec::new();
        Hello::new(Profile::named(name)).write_frame(Header::new(Type::Hello), &mut hello);
        tls.writer().write_all(&hello).expect("memory");
        let mut socket = dial(address, from);
        socket.set_read_timeout(Some(HANG)).expect("an option");
        tls.write_tls(&mut socket).expect("open");
        Self { stream: StreamOwned::new(tls, socket), id: Id::RELAY }
    }

    pub(crate) fn welcomed(&mut self) {
        let (header, _) = self.frame().expect("a WELCOME");
        assert_eq!(header.frame_type(), Some(Type::Welcome));
        self.id = header.destination;
    }

    pub(crate) fn connect(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Self {
        let mut client = Self::greet(address, config, name, Ipv4Addr::LOCALHOST);
        client.welcomed();
        client
    }

    pub(crate) fn send(&mut self, header: Header, payload: &[u8]) -> std::io::Result<()> {
        let mut bytes = header.bytes(payload.len()).to_vec();
        bytes.extend_from_slice(payload);
        self.stream.write_all(&bytes)?;
        self.stream.flush()
    }

    pub(crate) fn frame(&mut self) -> std::io::Result<(Header, Vec<u8>)> {
        let mut head = [0; HEADER_BYTES];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let mut payload = vec![0; length + 4 - HEADER_BYTES];
        self.stream.read_exact(&mut payload)?;
        Ok((Header::read(&head), payload))
    }

    /// Sends something to itself, and waits for it.
    fn talks(&mut self, number: u32) {
        self.send(Header::new(Type::Send).to(self.id).correlating(number), b"to myself").expect("open");
        loop {
            let (header, _) = self.frame().expect("it is here");
            if header.frame_type() == Some(Type::Send) {
                assert_eq!(header.correlation, number);
                return;
            }
        }
    }

    /// The certificate that the relay has shown.
    fn certificate(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().and_then(<[_]>::first).expect("a certificate").to_vec()
    }
}

/// All clients over TLS are lost at once and are back at once, each with a whole handshake.
pub(crate) fn storm(scene: &mut Scene) {
    let (storms, clients) = scene.size.of((1, 100), (2, 5000));
    let tls = scene.relay.tls_address().to_string();
    let file = certificate();
    let crowd = ("tls-storm", &[&*tls, file.to_str().expect("text")][..]);
    let lasted = lost_and_back(scene, crowd, "handshakes", storms, clients);
    scene.note(format!("{storms} × {clients} lost and back over TLS; all registered after {lasted:.1?}"));
}

/// Is the crowd of a storm over TLS.
pub(crate) fn storm_crowd(count: usize, address: SocketAddr, certificate: &Path, mut next: impl FnMut(&str) -> bool) {
    let mut config = config(certificate, &[&rustls::version::TLS13]);
    config.resumption = rustls::client::Resumption::disabled();
    let config = Arc::new(config);
    for visit in 0..100_u8 {
        let come = |number: usize| {
            let IpAddr::V4(from) = IpAddr::from([127, 0, 3 + visit, 1 + (number / 1000) as u8]) else { unreachable!() };
            TlsClient::greet(address, &config, &format!("tls-{visit}-{number}"), from)
        };
        let mut clients: Vec<TlsClient> = Vec::new();
        while clients.len() < count {
            // One process plays all of them, and leaves more in their handshake than the relay grants to those who are new.
            let begun = clients.len();
            clients.extend((begun..count.min(begun + AT_ONCE)).map(come));
            clients[begun..].iter_mut().for_each(TlsClient::welcomed);
        }
        if !next("here") {
            return;
        }
        drop(clients);
    }
}

/// Keys are changed while clients talk over TLS: nobody is dropped, and who comes then is shown the new certificate. Files
/// that are no good change nothing.
pub(crate) fn key_reload(scene: &mut Scene) {
    let address = scene.relay.tls_address();
    let mut shown = Vec::new();
    let mut talkers: Vec<TlsClient> = Vec::new();
    let mut reloads = 0_u32;
    while scene.goes_on() || reloads < scene.size.of(3, 3) {
        let trusts = Arc::new(config(&certificate(), rustls::ALL_VERSIONS));
        let mut newcomer = TlsClient::connect(address, &trusts, &format!("talker-{reloads}"));
        newcomer.talks(1);
        assert!(!shown.contains(&newcomer.certificate()), "the new certificate is shown");
        shown.push(newcomer.certificate());
        if talkers.len() < 50 {
            talkers.push(newcomer);
        }
        make_keys();
        scene.relay.signal(Signal::HUP);
        for talker in &mut talkers {
            talker.talks(100 + reloads);
        }
        scene.relay.log_line("the keys for TLS have been read anew");
        reloads += 1;
        if scene.goes_on() {
            std::thread::sleep(RELOAD_PAUSE);
        }
    }
    let good = std::fs::read(certificate()).expect("a file");
    std::fs::write(certificate(), &good[..good.len() / 2]).expect("a file");
    scene.relay.signal(Signal::HUP);
    let line = scene.relay.log_line("TLS goes on with the keys that it has");
    assert!(line.contains("switchboard-fault-cert.pem"), "it names the file: {line}");
    std::fs::write(certificate(), good).expect("a file");
    let trusts = Arc::new(config(&certificate(), rustls::ALL_VERSIONS));
    TlsClient::connect(address, &trusts, "still").talks(2);
    for talker in &mut talkers {
        talker.talks(9);
    }
    let said = line.split_once("has: ").map_or(&line[..], |(_, rest)| rest);
    let file = said.rsplit('/').next().unwrap_or(said).to_owned();
    scene.note(format!(
        "{reloads} certificates one after the other; {} talkers stayed; of a bad file it says \"{file}\"",
        talkers.len()
    ));
}

/// Half a record, new keys without end, a second handshake in the midst of the first, on as many connections as there are.
pub(crate) fn abuse(scene: &mut Scene) {
    let address = scene.relay.tls_address();
    let trusts = Arc::new(config(&certificate(), &[&rustls::version::TLS13]));
    let old = Arc::new(config(&certificate(), &[&rustls::version::TLS12]));
    let before = scene.relay.counters();
    let (mut halves, mut floods, mut again) = (0_u64, 0_u64, 0_u64);
    while scene.goes_on() || halves < scene.size.of(5, 0) {
        let mut half = TlsClient::connect(address, &trusts, &format!("half-{halves}"));
        let mut record = Vec::new();
        half.stream.conn.writer().write_all(&[1; 300]).expect("memory");
        half.stream.conn.write_tls(&mut record).expect("memory");
        half.stream.sock.write_all(&record[..200]).expect("open");
        halves += 1;

        // As many as are taken for honest, and again and again one for each 16 KiB of data; then more of them. What it hears
        // now and then is for its own library, which takes no more than 32 answers in a row.
        let mut flood = TlsClient::connect(address, &trusts, &format!("flood-{floods}"));
        for _ in 0..32 {
            flood.stream.conn.refresh_traffic_keys().expect("TLS 1.3");
        }
        flood.talks(1);
        for round in 0..100 {
            flood.send(Header::new(Type::Pong).correlating(round), &[0; 16 * 1024]).expect("within what is allowed");
            flood.stream.conn.refresh_traffic_keys().expect("TLS 1.3");
            if round % 20 == 19 {
                flood.talks(1);
            }
        }
        flood.talks(5);
        for _ in 0..40 {
            flood.stream.conn.refresh_traffic_keys().expect("TLS 1.3");
        }
        let _ = flood.stream.flush();
        while flood.frame().is_ok() {}
        floods += 1;

        // A client library sends no second ClientHello in TLS 1.2; one from elsewhere is no record of this connection.
        let mut second = TlsClient::connect(address, &old, &format!("again-{again}"));
        let mut hello = Vec::new();
        let mut other = tls::connect(Arc::clone(&old));
        other.write_tls(&mut hello).expect("memory");
        second.stream.sock.write_all(&hello).expect("open");
        while second.frame().is_ok() {}
        again += 1;
        // The half record comes to its deadline.
        while half.frame().is_ok() {}
    }
    let counters = scene.relay.counters();
    let broken = counters.closed("TLS_FAILED") - before.closed("TLS_FAILED");
    assert_eq!(broken, floods + again, "{counters:?}");
    assert_eq!(counters.closed("FRAME_TIMEOUT") - before.closed("FRAME_TIMEOUT"), halves);
    scene.note(format!(
        "{halves} half records, each over in its time; {floods} × 132 new keys answered, 100 of them with data between them, and ended at one too many; \
         {again} second handshakes in the midst of a connection ended at once"
    ));
}
