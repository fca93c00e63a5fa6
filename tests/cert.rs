//! `switchboard cert` as a person uses it, judged by openssl where it is installed, and by a handshake.

mod client_support;
mod tls_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use client_support::{assert_code, run, stderr, stdout};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use switchboard::client::{Client, ConnectError, Identity, Options, Tls, TlsError};
use tls_support::{Frames, Line, Style, at, listen_tls};

/// Runs `switchboard cert` in a folder.
fn cert(arguments: &[&str]) -> Output {
    run("ignored:1", &[&["cert"], arguments].concat(), b"")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// What openssl says, if it is there.
fn openssl(arguments: &[&str]) -> Option<Output> {
    Command::new("openssl").args(arguments).output().ok()
}

/// Connects to a relay with the pair in `relay`, believing `ca`, and if there is one with the identity in `client`; the
/// relay then wants one that `ca` has signed.
fn connect(relay: &Path, ca: &Path, client: Option<&Path>) -> Result<Client, ConnectError> {
    let certificates = |path: &Path| CertificateDer::from_pem_file(path.join("cert.pem")).expect("a certificate");
    let style = Style { clients: client.map(|_| certificates(ca)), ..Style::default() };
    let key = PrivateKeyDer::from_pem_file(relay.join("key.pem")).expect("a key");
    let config = style.config_of(vec![certificates(relay)], key);
    let (port, _handle) = listen_tls(config, usize::MAX, |mut line: Line| {
        if let Ok((header, _)) = line.try_frame() {
            line.welcome_to(header);
        }
    });
    let identity = client.map(|client| Identity { certificate: client.join("cert.pem"), key: client.join("key.pem") });
    let tls = Tls { ca: Some(ca.join("cert.pem")), identity };
    Client::connect(&at(port), &Options { tls, ..Options::named("ada") })
}

#[test]
fn a_certificate_that_vouches_for_itself_is_for_this_machine_and_clients_take_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("deep/relay");
    let output = cert(&["--out", text(&out)]);
    assert_code(&output, 0);
    let said = stdout(&output);
    let lines: Vec<&str> = said.lines().collect();
    let (certificate, key) = (out.join("cert.pem"), out.join("key.pem"));
    assert!(lines[0].contains("localhost, 127.0.0.1, ::1"), "{said}");
    let serve = format!(
        "switchboard serve --listen tls://127.0.0.1:9999 --tls-cert {} --tls-key {}",
        certificate.display(),
        key.display()
    );
    let join = format!("switchboard join tls://localhost --ca {}", certificate.display());
    assert_eq!(lines[1..], [serve.as_str(), &join]);
    assert_eq!(fs::metadata(&key).expect("there").permissions().mode() & 0o777, 0o600);
    connect(&out, &out, None).expect("believed");

    if let Some(shown) = openssl(&["x509", "-in", text(&certificate), "-noout", "-text"]) {
        let shown = stdout(&shown);
        for part in [
            "DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1",
            "CA:FALSE",
            "TLS Web Server Authentication",
            "Digital Signature",
            "NIST CURVE: P-256",
            "ecdsa-with-SHA256",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        for seconds in [89 * 86_400, 91 * 86_400] {
            let ends = openssl(&["x509", "-in", text(&certificate), "-noout", "-checkend", &seconds.to_string()]);
            assert_eq!(ends.expect("it is there").status.success(), seconds == 89 * 86_400, "{seconds}");
        }
        let verified = openssl(&["verify", "-CAfile", text(&certificate), text(&certificate)]).expect("it is there");
        assert!(verified.status.success(), "{}", stderr(&verified));
        let name = openssl(&["x509", "-in", text(&certificate), "-noout", "-checkhost", "localhost"]);
        assert!(stdout(&name.expect("it is there")).contains("does match"));
        assert!(openssl(&["pkey", "-in", text(&key), "-check", "-noout"]).expect("it is there").status.success());
    }
}

#[test]
fn an_authority_signs_relays_and_clients_and_each_is_taken_for_what_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let [ca, relay, ada] = ["ca", "relay", "ada"].map(|name| folder.path().join(name));
    assert_code(&cert(&["--authority", "--out", text(&ca)]), 0);
    let names = ["--name", "relay.example", "--name", "localhost", "--name", "192.0.2.7"];
    let output = cert(&[&["--signed-by", text(&ca), "--out", text(&relay)], &names[..]].concat());
    assert_code(&output, 0);
    let join = format!("switchboard join tls://relay.example --ca {}", ca.join("cert.pem").display());
    assert!(stdout(&output).contains(&join) && stdout(&output).contains("tls://:9999"), "{}", stdout(&output));
    let output = cert(&["--signed-by", text(&ca), "--user", "ada", "--out", text(&ada)]);
    assert_code(&output, 0);
    let join =
        format!("--cert {} --key {} --user ada\n", ada.join("cert.pem").display(), ada.join("key.pem").display());
    assert!(stdout(&output).ends_with(&join) && stdout(&output).contains("--tls-client-ca"), "{}", stdout(&output));

    connect(&relay, &ca, None).expect("believed");
    connect(&relay, &ca, Some(&ada)).expect("both believed");
    // A relay's certificate is none for a client, and the other way round.
    let error = connect(&relay, &ca, Some(&relay)).expect_err("not a client's");
    assert!(matches!(error, ConnectError::Tls(TlsError::CertificateRefused(_))), "{error}");
    let error = connect(&ada, &ca, None).expect_err("not a relay's");
    assert!(matches!(error, ConnectError::Tls(TlsError::BadCertificate(_) | TlsError::WrongName { .. })), "{error}");

    let of = |folder: &Path| text(&folder.join("cert.pem")).to_owned();
    for (purpose, who) in [("sslserver", &relay), ("sslclient", &ada)] {
        let Some(verified) = openssl(&["verify", "-purpose", purpose, "-x509_strict", "-CAfile", &of(&ca), &of(who)])
        else {
            return;
        };
        assert!(verified.status.success(), "{purpose}: {}", stderr(&verified));
    }
    let subject = openssl(&["x509", "-in", &of(&ada), "-noout", "-subject", "-nameopt", "RFC2253"]);
    assert_eq!(stdout(&subject.expect("it is there")).trim(), "subject=CN=ada");
}

#[test]
fn nobody_signs_who_is_no_authority_and_nothing_outlives_who_has_signed_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let [ca, other, plain, out] = ["ca", "other", "plain", "out"].map(|name| folder.path().join(name));
    assert_code(&cert(&["--authority", "--days", "3", "--out", text(&ca)]), 0);
    assert_code(&cert(&["--authority", "--out", text(&other)]), 0);
    assert_code(&cert(&["--out", text(&plain)]), 0);
    let refused = |signer: &Path, says: &str| {
        let output = cert(&["--signed-by", text(signer), "--out", text(&out)]);
        assert_code(&output, 1);
        assert!(stderr(&output).contains(says) && stderr(&output).lines().count() == 1, "{}", stderr(&output));
        assert!(!out.exists(), "nothing is left behind");
    };
    refused(&plain, "it is no authority's: make one with `switchboard cert --authority --out DIR`");
    refused(folder.path(), "cert.pem: No such file");
    let mixed = folder.path().join("mixed");
    fs::create_dir(&mixed).expect("made");
    fs::copy(ca.join("cert.pem"), mixed.join("cert.pem")).expect("copied");
    fs::copy(other.join("key.pem"), mixed.join("key.pem")).expect("copied");
    refused(&mixed, "it is not the key of");
    fs::write(mixed.join("key.pem"), "nothing").expect("written");
    refused(&mixed, "it holds no private key");

    let end = |output: &Output| -> String {
        let object: Value = serde_json::from_str(&stdout(output)).expect("JSON");
        object["not_after"].as_str().expect("a time").to_owned()
    };
    let ends = end(&cert(&["--authority", "--days", "3", "--json", "--force", "--out", text(&ca)]));
    let output = cert(&["--signed-by", text(&ca), "--days", "30", "--json", "--out", text(&out)]);
    assert_code(&output, 0);
    assert_eq!(end(&output), ends);
}

#[test]
fn what_is_there_is_written_over_only_when_that_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("it's a relay");
    let (certificate, key) = (out.join("cert.pem"), out.join("key.pem"));
    assert_code(&cert(&["--out", text(&out)]), 0);
    let before = (fs::read(&certificate).expect("there"), fs::read(&key).expect("there"));
    let output = cert(&["--out", text(&out)]);
    assert_code(&output, 1);
    assert!(stderr(&output).contains("--force"), "{}", stderr(&output));
    assert_eq!((fs::read(&certificate).expect("there"), fs::read(&key).expect("there")), before);
    // One of the two is enough, and the other is not made beside it.
    fs::remove_file(&key).expect("removed");
    assert_code(&cert(&["--out", text(&out)]), 1);
    assert!(!key.exists());
    let output = cert(&["--out", text(&out), "--force", "--json"]);
    assert_code(&output, 0);
    assert_ne!(fs::read(&certificate).expect("there"), before.0);
    assert_eq!(fs::metadata(&key).expect("there").permissions().mode() & 0o777, 0o600);
    connect(&out, &out, None).expect("certificate and key belong together");
    assert_eq!(fs::read_dir(&out).expect("there").count(), 2, "nothing else is left there");

    let object: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(object["certificate"], text(&certificate));
    assert_eq!((&object["for"][0], &object["is_authority"]), (&"localhost".into(), &false.into()));
    let join = object["next"][1].as_str().expect("a line");
    assert_eq!(shlex::split(join).expect("words").last().expect("a word"), text(&certificate));
    if let Some(shown) = openssl(&["x509", "-in", text(&certificate), "-noout", "-fingerprint", "-sha256"]) {
        let fingerprint = object["sha256"].as_str().expect("a fingerprint");
        assert!(stdout(&shown).trim().ends_with(fingerprint), "{}", stdout(&shown));
    }
}

#[test]
fn what_makes_no_sense_exits_2_and_says_what_to_change() {
    for (arguments, says) in [
        (&[][..], "--out"),
        (&["--out", "x", "--name", "example.org:9999"], "without a port"),
        (&["--out", "x", "--name", "tls://example.org"], "without a port"),
        (&["--out", "x", "--days", "0"], "--days"),
        (&["--out", "x", "--days", "4000"], "--days"),
        (&["--out", "x", "--user", "ada"], "--signed-by"),
        (&["--out", "x", "--user", " ada", "--signed-by", "y"], "no space at either end"),
        (&["--out", "x", "--authority", "--signed-by", "y"], "cannot be used with"),
        (&["--out", "x", "--authority", "--name", "localhost"], "cannot be used with"),
        (&["--out", "x", "--user", "ada", "--signed-by", "y", "--name", "localhost"], "cannot be used with"),
    ] {
        let output = cert(arguments);
        assert_code(&output, 2);
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    let output = cert(&["--out", text(&file)]);
    assert_code(&output, 1);
    assert!(stderr(&output).contains("cannot make the folder"), "{}", stderr(&output));
}

#[test]
fn a_pair_that_works_is_kept_if_the_new_one_cannot_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("relay");
    assert_code(&cert(&["--out", text(&out)]), 0);
    let key = fs::read(out.join("key.pem")).expect("a key");
    // A folder that is not empty is in the way, and is not taken away.
    fs::create_dir_all(out.join("cert.pem.new/full")).expect("a folder");
    let output = cert(&["--out", text(&out), "--force"]);
    assert_code(&output, 1);
    assert!(stderr(&output).contains("cannot write") && stderr(&output).contains("cert.pem"), "{}", stderr(&output));
    assert_eq!(fs::read(out.join("key.pem")).expect("a key"), key);
    assert!(!out.join("key.pem.new").exists(), "nothing is left");
}
