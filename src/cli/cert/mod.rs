//! `switchboard cert`: certificates for a first try of TLS, and a small authority for trying it both ways.
//!
//! `make.rs` makes them; this file has the arguments, the files and what is said.
//!
//! What it does not do: it is no public key infrastructure. It revokes nothing, renews nothing, and keeps no list.

mod make;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::json;

use self::make::{Authority, Made, Purpose};
use super::{Trouble, output, parse_name};

/// The file of the certificate within the folder.
const CERTIFICATE_FILE: &str = "cert.pem";
/// The file of its private key.
const KEY_FILE: &str = "key.pem";
/// Days that a certificate is good for: as many as those of the public authority that most people know (Let's Encrypt),
/// long enough to try things and too short to be forgotten on a relay that matters.
const DAYS_DEFAULT: u32 = 90;
/// Days that an authority is good for where `--days` does not say: it should outlive those that it signs.
const AUTHORITY_DAYS_DEFAULT: u32 = 365;
/// What is longer is a slip.
const DAYS_MAX: i64 = 3650;

/// Make a certificate and its private key, for a first try of TLS.
///
/// Without --signed-by the certificate vouches for itself: clients take it with `--ca DIR/cert.pem`, and nobody else's.
/// An authority (--authority) signs others (--signed-by); clients then take its certificate with --ca, and the relay
/// with --tls-client-ca takes the clients that it has signed (--user).
///
/// What to type next is printed.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The folder for cert.pem and key.pem; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A host's name or number that the relay is reached at; may be repeated [default: localhost, 127.0.0.1, ::1 and
    /// the name of this machine].
    #[arg(long, value_name = "HOST|IP", value_parser = make::parse_host, conflicts_with_all = ["authority", "user"])]
    name: Vec<String>,
    /// How many days it is good for [default: 90, for an authority 365]; never longer than who signs it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=DAYS_MAX))]
    days: Option<u32>,
    /// Make an authority, which can sign others.
    #[arg(long, conflicts_with_all = ["signed_by", "user"])]
    authority: bool,
    /// Have it signed by the authority in this folder.
    #[arg(long, value_name = "DIR")]
    signed_by: Option<PathBuf>,
    /// Make a certificate by which this user's clients prove who they are.
    #[arg(long, value_name = "NAME", requires = "signed_by", value_parser = parse_name)]
    user: Option<String>,
    /// Write over what is in the folder.
    #[arg(long)]
    force: bool,
    /// Say it as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Trouble> {
    let days = arguments.days.unwrap_or(if arguments.authority { AUTHORITY_DAYS_DEFAULT } else { DAYS_DEFAULT });
    let until = SystemTime::now() + Duration::from_hours(24) * days;
    let purpose = match (&arguments.user, arguments.authority) {
        (Some(user), _) => Purpose::User(user.clone()),
        (None, true) => Purpose::Authority,
        (None, false) if arguments.name.is_empty() => Purpose::Relay(make::own_names()),
        (None, false) => Purpose::Relay(arguments.name.clone()),
    };
    let files = Files::within(&arguments.out);
    if !arguments.force {
        files.must_not_be_there()?;
    }
    let made = match &arguments.signed_by {
        None => Made::by_itself(&purpose, until),
        Some(folder) => {
            let signer = Files::within(folder);
            let authority = Authority::read(&signer.certificate, &signer.key).map_err(Trouble::System)?;
            Made::by(&authority, &purpose, until)
        }
    };
    let made = made.map_err(|why| Trouble::System(format!("cannot make the certificate: {why}")))?;
    files.write(&made, arguments.force)?;
    tell(&arguments, &purpose, &files, &made)
}

struct Files {
    folder: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn within(folder: &Path) -> Self {
        Self { folder: folder.into(), certificate: folder.join(CERTIFICATE_FILE), key: folder.join(KEY_FILE) }
    }

    fn must_not_be_there(&self) -> Result<(), Trouble> {
        match [&self.certificate, &self.key].into_iter().find(|path| path.symlink_metadata().is_ok()) {
            None => Ok(()),
            Some(path) => Err(already_there(path)),
        }
    }

    /// Both or none: whoever has a pair that works keeps it if the new one cannot be written.
    fn write(&self, made: &Made, force: bool) -> Result<(), Trouble> {
        // Only its owner looks into a folder that holds a key.
        let built = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        built.map_err(|error| Trouble::System(format!("cannot make the folder {}: {error}", self.folder.display())))?;
        let parts =
            [(&self.key, made.key_pem.as_bytes(), 0o600), (&self.certificate, made.certificate_pem.as_bytes(), 0o644)];
        let mut written = Vec::new();
        for (path, bytes, mode) in parts {
            let target = if force { path.with_extension("pem.new") } else { path.clone() };
            if force {
                // One that was left by a run that did not get to its end.
                let _ = fs::remove_file(&target);
            }
            put(&target, bytes, mode).map_err(|error| {
                for target in &written {
                    let _ = fs::remove_file(target);
                }
                match error.kind() {
                    io::ErrorKind::AlreadyExists if !force => already_there(path),
                    _ => Trouble::System(format!("cannot write {}: {error}", path.display())),
                }
            })?;
            written.push(target);
        }
        for (target, (path, ..)) in written.iter().zip(parts).filter(|_| force) {
            let moved = fs::rename(target, path);
            moved.map_err(|error| Trouble::System(format!("cannot write {}: {error}", path.display())))?;
        }
        Ok(())
    }
}

fn already_there(path: &Path) -> Trouble {
    Trouble::System(format!("{} is there already: take another folder, or --force to write over it", path.display()))
}

/// Writes a file that was not there, so that it is on the disk; one that could not be written whole is not left.
fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(fs::remove_file(path)))
}

fn tell(arguments: &Arguments, purpose: &Purpose, files: &Files, made: &Made) -> Result<(), Trouble> {
    let signer = arguments.signed_by.as_deref().map(Files::within);
    let next = next(purpose, files, signer.as_ref());
    let mut out = io::stdout().lock();
    let until = humantime::format_rfc3339_seconds(made.until).to_string();
    if arguments.json {
        let object = json!({
            "certificate": files.certificate.to_string_lossy(),
            "key": files.key.to_string_lossy(),
            "for": purpose.names(),
            "is_authority": matches!(purpose, Purpose::Authority),
            "signed_by": signer.map(|signer| signer.certificate.to_string_lossy().into_owned()),
            "not_after": until,
            "sha256": made.fingerprint,
            "next": next,
        });
        writeln!(out, "{object}")?;
    } else {
        let what = match purpose {
            Purpose::Authority => "may sign others".to_owned(),
            Purpose::Relay(names) => format!("is for {}", names.join(", ")),
            Purpose::User(user) => format!("is for clients of the user {}", output::one_line(user)),
        };
        let day = until.split('T').next().unwrap_or(&until);
        writeln!(out, "{} {what}, until {day}; {} is its key", files.certificate.display(), files.key.display())?;
        for line in next {
            writeln!(out, "{line}")?;
        }
    }
    out.flush()?;
    Ok(())
}

/// The two lines that are of use next.
fn next(purpose: &Purpose, files: &Files, signer: Option<&Files>) -> [String; 2] {
    let word = |path: &Path| shell_word(&path.to_string_lossy());
    let (certificate, key) = (word(&files.certificate), word(&files.key));
    let believed = word(&signer.unwrap_or(files).certificate);
    match purpose {
        Purpose::Authority => {
            let folder = word(&files.folder);
            [
                format!("switchboard cert --signed-by {folder} --out relay"),
                format!("switchboard cert --signed-by {folder} --user NAME --out NAME"),
            ]
        }
        Purpose::Relay(names) => {
            // A name with an asterisk is for hosts, and none of one.
            let host = names.iter().find(|name| !name.starts_with('*')).map_or("HOST", String::as_str);
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            let listen = if make::is_this_machine(&host) { "127.0.0.1:9999" } else { ":9999" };
            [
                format!("switchboard serve --listen tls://{listen} --tls-cert {certificate} --tls-key {key}"),
                format!("switchboard join tls://{} --ca {believed}", shell_word(&host)),
            ]
        }
        Purpose::User(user) => [
            // It is the users file that says what a certificate is good for.
            format!(
                "switchboard serve --listen tls://127.0.0.1:9999 --tls-cert relay/cert.pem --tls-key relay/key.pem \
                 --tls-client-ca {believed} --users users   # and a line in users: {} certificate",
                shell_word(user)
            ),
            // Without --user the certificate is offered only when the relay has asked, at another connection.
            format!(
                "switchboard join tls://localhost --ca {believed} --cert {certificate} --key {key} --user {}",
                shell_word(user)
            ),
        ],
    }
}

/// A word as a shell reads it.
fn shell_word(text: &str) -> String {
    shlex::try_quote(text).map_or_else(|_| text.to_owned(), std::borrow::Cow::into_owned)
}
