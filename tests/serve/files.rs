//! Key files and a users file as an operator has them, and everything that can be wrong with them: for a start and for a
//! reload, where each is said in the same words.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use switchboard::auth::{TokenDigest, token_text};
use tempfile::TempDir;

use crate::tls_support::{Change, Pair, client, expired, of_tomorrow, usual};

/// Words that stand in bad users files, and must stand in no line about them.
const SECRETS: [&str; 3] = ["hunter2", "aHVudGVyMg", "swb_B"];

/// A folder with files for `serve`, all good at first.
pub(crate) struct Files {
    folder: TempDir,
    relay: Pair,
    authority: Pair,
}

impl Files {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Self {
            folder,
            relay: Pair::self_signed(&["localhost"], usual),
            authority: Pair::authority("an authority"),
        };
        files.make_good();
        files
    }

    /// Puts everything back as it was at first.
    pub(crate) fn make_good(&self) {
        for (name, text) in [
            (CERT, self.relay.certificate.pem()),
            (KEY, self.relay.key_text()),
            (CA, self.authority.certificate.pem()),
            (USERS, users(&["ada"])),
        ] {
            self.write(name, text);
        }
    }

    /// A client's certificate of the authority that the relay believes.
    pub(crate) fn signed(&self, user: &str) -> Pair {
        self.authority.sign(user, &[], client)
    }

    /// Another certificate for the relay, with its key.
    pub(crate) fn renew(&mut self) {
        self.relay = Pair::self_signed(&["localhost"], usual);
        self.make_good();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A copy of the certificate as it is now: what a client trusts.
    pub(crate) fn trusted(&self, name: &str) -> PathBuf {
        self.write(name, self.relay.certificate.pem());
        self.path(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        self.remove(name);
        fs::write(self.path(name), text).expect("written");
    }

    fn remove(&self, name: &str) {
        let path = self.path(name);
        let _ = if path.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
    }

    fn make_folder(&self, name: &str) {
        self.remove(name);
        fs::create_dir(self.path(name)).expect("a folder");
    }

    fn make_pipe(&self, name: &str) {
        self.remove(name);
        assert!(Command::new("mkfifo").arg(self.path(name)).status().expect("mkfifo runs").success());
    }

    /// A file that is larger than it could need to be, and takes no room.
    fn make_huge(&self, name: &str, bytes: u64) {
        self.write(name, "");
        fs::File::options().write(true).open(self.path(name)).and_then(|file| file.set_len(bytes)).expect("longer");
    }

    pub(crate) fn make_pair(&self, change: Change) {
        let pair = Pair::self_signed(&["localhost"], change);
        self.write(CERT, pair.certificate.pem());
        self.write(KEY, pair.key_text());
    }

    /// The flags of all that TLS needs.
    pub(crate) fn tls_flags(&self) -> Vec<String> {
        self.flags(&[CERT, KEY, CA])
    }

    pub(crate) fn users_flags(&self) -> Vec<String> {
        self.flags(&[USERS])
    }

    fn flags(&self, names: &[&str]) -> Vec<String> {
        names.iter().flat_map(|name| [flag(name).to_owned(), text(&self.path(name))]).collect()
    }

    /// Nothing of a key, and nothing that somebody could have put into a users file by mistake, is in these words.
    pub(crate) fn assert_no_secret(&self, said: &str) {
        let key = self.relay.key_text();
        let lines = key.lines().filter(|line| !line.starts_with("-----"));
        for secret in lines.chain(SECRETS) {
            assert!(!said.contains(secret), "{secret} in {said}");
        }
    }
}

pub(crate) const CERT: &str = "cert.pem";
pub(crate) const KEY: &str = "key.pem";
pub(crate) const CA: &str = "ca.pem";
pub(crate) const USERS: &str = "users";

/// The flag that names a file.
pub(crate) fn flag(name: &str) -> &'static str {
    match name {
        CERT => "--tls-cert",
        KEY => "--tls-key",
        CA => "--tls-client-ca",
        _ => "--users",
    }
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// What lets this user in.
pub(crate) fn token(user: &str) -> String {
    let mut seed = [7; 32];
    seed[..user.len()].copy_from_slice(user.as_bytes());
    token_text(&seed).to_string()
}

/// A users file in which each of these has a token.
pub(crate) fn users(names: &[&str]) -> String {
    let line = |name: &&str| format!("{name} token:{} names=*\n", TokenDigest::of(token(name).as_bytes()));
    names.iter().map(line).collect()
}

/// Files that cannot be used: what is done to good ones, which of them is named, and what is said of it.
pub(crate) type Bad = (fn(&Files), &'static str, &'static str);

const NOT_THERE: &str = "it cannot be read: No such file or directory";
const NO_FILE: &str = "it cannot be read: it is no file but a pipe or a device";

/// What root may read anyway cannot be made unreadable by its mode: folders and pipes stand for that.
pub(crate) const BAD_KEYS: [Bad; 25] = [
    (|files| files.remove(CERT), CERT, NOT_THERE),
    (|files| files.remove(KEY), KEY, NOT_THERE),
    (|files| files.remove(CA), CA, NOT_THERE),
    (|files| files.make_folder(CERT), CERT, "it is a folder; name the file in it"),
    (|files| files.make_folder(KEY), KEY, "it is a folder; name the file in it"),
    (|files| files.make_pipe(CERT), CERT, NO_FILE),
    (|files| files.make_pipe(KEY), KEY, NO_FILE),
    (|files| files.make_pipe(CA), CA, NO_FILE),
    (|files| files.make_huge(KEY, (1 << 20) + 1), KEY, "it has more than 1 MiB; is it the right file?"),
    (|files| files.write(CERT, files.relay.key_text()), CERT, "it holds no certificate (PEM)"),
    (|files| files.write(CERT, files.relay.certificate.der()), CERT, "it holds no certificate (PEM)"),
    (|files| files.write(CERT, ""), CERT, "it holds no certificate (PEM)"),
    (
        |files| files.write(KEY, files.relay.certificate.pem()),
        KEY,
        "it holds no private key (PEM, without a passphrase)",
    ),
    (
        |files| files.write(KEY, files.relay.key_text().replace("PRIVATE", "ENCRYPTED PRIVATE")),
        KEY,
        "the key in it has a passphrase, and must not",
    ),
    (
        |files| files.write(KEY, pem("EC PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nhunter2=")),
        KEY,
        "the key in it has a passphrase, and must not",
    ),
    (|files| files.write(KEY, Pair::authority("x").key_text()), KEY, "it is not the key of the certificate "),
    (|files| files.write(KEY, pem("PRIVATE KEY", "hunter2=")), KEY, "the key is damaged, or of another kind than"),
    (|files| files.write(KEY, pem("PRIVATE KEY", "!hunter2!")), KEY, "what stands between BEGIN and END is not base64"),
    (
        |files| files.write(CERT, &files.relay.certificate.pem()[..200]),
        CERT,
        "it breaks off in its midst: the line -----END is missing",
    ),
    (|files| files.write(CERT, pem("CERTIFICATE", "AAAA")), CERT, "certificate 1 in it is damaged"),
    (
        // Only clients would have noticed.
        |files| files.write(CERT, files.relay.certificate.pem() + &pem("CERTIFICATE", "AAAA")),
        CERT,
        "certificate 2 in it is damaged",
    ),
    (|files| files.make_pair(expired), CERT, "the certificate ended on "),
    (|files| files.make_pair(of_tomorrow), CERT, "on; is this machine's clock right?"),
    (|files| files.write(CA, files.relay.key_text()), CA, "it holds no certificate (PEM)"),
    (|files| files.write(CA, pem("CERTIFICATE", "AAAA")), CA, "certificate 1 in it is damaged"),
];

fn pem(kind: &str, inner: &str) -> String {
    format!("-----BEGIN {kind}-----\n{inner}\n-----END {kind}-----\n")
}

/// The same for the users file. In those that make no sense it is the second line.
pub(crate) const BAD_USERS: [Bad; 18] = [
    (|files| files.remove(USERS), USERS, NOT_THERE),
    (|files| files.make_folder(USERS), USERS, "it is a folder; name the file in it"),
    (|files| files.make_pipe(USERS), USERS, NO_FILE),
    (|files| files.make_huge(USERS, (64 << 20) + 1), USERS, "it has more than 64 MiB; is it the right file?"),
    (|files| second_line(files, b"ada certificate"), USERS, "line 2: \"ada\" is there twice"),
    (|files| second_line(files, b"eve"), USERS, "line 2: \"eve\" has no way in"),
    (|files| second_line(files, b"eve hunter2"), USERS, "line 2: a word is not known; after the name stand"),
    (|files| second_line(files, b"eve aHVudGVyMg=="), USERS, "line 2: a word is not known; after the name stand"),
    (|files| second_line(files, b"eve password=hunter2"), USERS, "line 2: \"password=\" is not known"),
    (|files| second_line(files, b"eve:hunter2"), USERS, "line 2: \"eve:\"... has no way in"),
    (|files| second_line(files, token("\x07").as_bytes()), USERS, "line 2: \"swb_\"... has no way in"),
    (|files| second_line(files, b"eve SCRAM-SHA-256$4096:aHVudGVyMg"), USERS, "line 2: the password's verifier "),
    (
        |files| second_line(files, b"eve SCRAM-SHA-256$1:aHVudGVyMg==$aHVudGVyMg==:aHVudGVyMg=="),
        USERS,
        "line 2: the password's verifier ",
    ),
    (|files| second_line(files, b"eve token:hunter2"), USERS, "line 2: a token's hash is not "),
    (|files| second_line(files, b"'eve certificate"), USERS, "line 2: a quote is not closed"),
    (|files| second_line(files, &[b'e'; 16_385]), USERS, "line 2: the line has 16385 bytes; 16384 are the most"),
    (|files| second_line(files, b"e\xffe certificate"), USERS, "line 2: it is not UTF-8"),
    (|files| second_line(files, b"e\0e certificate"), USERS, "line 2: the user's name "),
];

fn second_line(files: &Files, line: &[u8]) {
    files.write(USERS, [users(&["ada"]).as_bytes(), line, b"\nzoe certificate\n"].concat());
}
