//! SIGHUP: keys and users are read anew while clients are connected. What cannot be used changes nothing and is said in
//! one line; what can is used from then on. Nobody is dropped by either.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use switchboard::client::{Address, Client, ConnectError, Credentials, Envelope, Event, Options, Tls, TlsError};
use switchboard::wire::Code;

use crate::files::{BAD_KEYS, BAD_USERS, CERT, Files, KEY, USERS, flag, text, token, users};
use crate::support::{HANG, Relay};
use crate::tls_support::{client, nameless, of_a_moment};

const KEYS_ARE_READ: &str = "[INFO] SIGHUP: the keys for TLS have been read anew";
const KEYS_STAY: &str = "[ERROR] SIGHUP: TLS goes on with the keys that it has: ";
const USERS_ARE_READ: &str = "[INFO] SIGHUP: the users have been read anew: ";
const USERS_STAY: &str = "[ERROR] SIGHUP: the users stay as they were: ";

/// A relay, plain and over TLS.
struct Running {
    relay: Relay,
    tls: Address,
}

impl Running {
    fn start(flags: Vec<String>) -> Self {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let relay = Relay::start(&[&["--listen", "tls://127.0.0.1:0"], &flags[..]].concat());
        let line = relay.announced(1).remove(0);
        let port = line.split(' ').find_map(|word| word.strip_prefix("tls://127.0.0.1:")).expect(&line);
        let tls = Address::Tls { host: "localhost".into(), port: port.parse().expect("a port") };
        Self { relay, tls }
    }

    /// Asks for a reload and gives what is said about it, from the log's next line on until it says `done`, and to the
    /// counters that are asked for then: what else it has to say stands before them.
    fn reload(&mut self, done: &str) -> Vec<String> {
        self.relay.signal(Signal::HUP);
        let mut lines = self.relay.log_lines(done);
        self.relay.signal(Signal::USR1);
        lines.extend(self.relay.log_lines("; frames in "));
        lines.retain(|line| line.contains("SIGHUP") || line.contains("[ERROR]"));
        lines
    }

    /// A client over TLS that trusts this certificate, and is a user.
    fn connect(&self, name: &str, trusted: &Path, user: &str) -> Result<Client, ConnectError> {
        let tls = Tls { ca: Some(trusted.to_owned()), identity: None };
        let credentials = Some(Credentials::Token(token(user).as_str().into()));
        Client::connect(&self.tls, &Options { tls, credentials, ..Options::named(name) })
    }
}

/// Sends itself something and hears it.
fn talks(client: &mut Client) {
    let me = client.session().client;
    let said = client.sender().send(me, Envelope::text(), b"still here").expect("connected");
    loop {
        match client.receiver().recv_timeout(HANG).expect("an answer") {
            Event::Message(message) => {
                assert_eq!((message.header.source, message.header.correlation), (me, said));
                return;
            }
            Event::Closed(closed) => panic!("{closed:?}"),
            _ => {}
        }
    }
}

#[test]
fn files_that_cannot_be_used_change_nothing_and_good_ones_after_them_drop_nobody() {
    let mut files = Files::new();
    let mut running = Running::start([files.tls_flags(), files.users_flags()].concat());
    let old = files.trusted("old");
    let mut first = running.connect("first", &old, "ada").expect("welcomed");
    for (spoil, name, says) in BAD_KEYS.iter().chain(&BAD_USERS) {
        spoil(&files);
        let (stay, is_read) = if *name == USERS { (USERS_STAY, KEYS_ARE_READ) } else { (KEYS_STAY, USERS_ARE_READ) };
        let said = running.reload(if *name == USERS { stay } else { is_read });
        let of_this: Vec<_> = said.iter().filter(|line| !line.contains(is_read)).collect();
        let [line] = &of_this[..] else { panic!("{says}: {said:?}") };
        let begins = format!("{stay}{} {}: ", flag(name), text(&files.path(name)));
        assert!(line.contains(&begins) && line.contains(says), "{says}: {line}");
        files.assert_no_secret(line);
        talks(&mut first);
        // Whoever comes now is shown the old certificate, and is known by the old list.
        talks(&mut running.connect("newcomer", &old, "ada").expect("welcomed"));
        files.make_good();
    }

    files.renew();
    files.write(USERS, users(&["ada", "eve"]));
    let said = running.reload(USERS_ARE_READ);
    let says = format!("{KEYS_ARE_READ}: another certificate, until ");
    assert!(said.iter().any(|line| line.contains(&says)) && said.len() == 2, "{said:?}");
    let said = running.reload(USERS_ARE_READ);
    let says = format!("{KEYS_ARE_READ}: the same certificate, until ");
    assert!(said.iter().any(|line| line.contains(&says)), "{said:?}");
    talks(&mut first);
    let error = running.connect("late", &old, "ada").expect_err("the old certificate is shown no more");
    assert!(matches!(error, ConnectError::Tls(TlsError::UnknownIssuer)), "{error}");
    let mut eve = running.connect("eve", &files.trusted("new"), "eve").expect("welcomed");
    assert_eq!(eve.session().user.as_deref(), Some("eve"));
    talks(&mut eve);
}

#[test]
fn keys_and_users_that_are_both_bad_are_told_in_a_line_each() {
    let files = Files::new();
    let mut running = Running::start([files.tls_flags(), files.users_flags()].concat());
    files.write(KEY, "");
    files.write(USERS, "ada\n");
    let said = running.reload(USERS_STAY);
    let [keys, users] = &said[..] else { panic!("{said:?}") };
    assert!(keys.contains(KEYS_STAY) && keys.contains(KEY), "{keys}");
    assert!(users.contains(USERS_STAY) && users.contains("line 1: "), "{users}");
    running.relay.log_line("found unusable and not taken: keys 1, users 1");
}

#[test]
fn a_certificate_without_its_new_key_is_used_when_the_key_has_come_too() {
    let mut files = Files::new();
    let mut running = Running::start(files.tls_flags());
    let old = files.trusted("old");
    let key = fs::read(files.path(KEY)).expect("a key");
    files.renew();
    // Files are replaced one after the other, and the signal may come between.
    let new_key = fs::read(files.path(KEY)).expect("a key");
    files.write(KEY, key);
    let said = running.reload(KEYS_STAY);
    let says = format!("it is not the key of the certificate {}", text(&files.path(CERT)));
    assert!(said.len() == 1 && said[0].contains(&says), "{said:?}");
    let connect = |running: &Running, trusted: &Path| {
        let tls = Tls { ca: Some(trusted.to_owned()), identity: None };
        Client::connect(&running.tls, &Options { tls, ..Options::named("ada") })
    };
    talks(&mut connect(&running, &old).expect("welcomed"));
    files.write(KEY, new_key);
    running.reload(KEYS_ARE_READ);
    talks(&mut connect(&running, &files.trusted("new")).expect("welcomed"));
}

#[test]
fn a_user_who_is_in_no_list_any_more_is_told_so_and_the_others_stay() {
    let files = Files::new();
    files.write(USERS, users(&["ada", "bob"]));
    let mut running = Running::start([files.tls_flags(), files.users_flags()].concat());
    let trusted = files.trusted("trusted");
    let [mut ada, mut bob] = ["ada", "bob"].map(|user| running.connect(user, &trusted, user).expect("welcomed"));
    // With a mistake anywhere in the file, not even what is taken out of it counts.
    files.write(USERS, users(&["ada"]) + "eve\n");
    running.reload(USERS_STAY);
    talks(&mut bob);
    files.write(USERS, users(&["ada"]));
    running.relay.signal(Signal::HUP);
    let line = running.relay.log_line(" had to go: ");
    let says = "\"bob\" of the user \"bob\" at 127.0.0.1:";
    assert!(line.contains("[INFO]") && line.contains(says) && line.contains("ACCESS_CHANGED"), "{line}");
    running.relay.log_line("connections that had to go with the new list of users: 1");
    let Event::Error(failure) = bob.receiver().recv_timeout(HANG).expect("told") else { panic!("no ERROR") };
    assert_eq!(failure.code(), Some(Code::AccessChanged));
    talks(&mut ada);
    let ConnectError::Refused(failure) = running.connect("bob", &trusted, "bob").expect_err("refused") else {
        panic!("not refused by the relay")
    };
    assert_eq!(failure.code(), Some(Code::AuthFailed));
}

#[test]
fn a_key_or_a_list_of_users_that_everybody_can_read_is_warned_of() {
    const MAY_BE_READ: &str = " is open to everybody on this machine: chmod o= ";
    let files = Files::new();
    let warned = |lines: &[String]| -> Vec<String> {
        let is_warning = |line: &&String| line.contains("[WARN] ") && line.contains(MAY_BE_READ);
        lines.iter().filter(is_warning).cloned().collect()
    };
    let mode = |mode: u32| {
        for name in [KEY, USERS] {
            fs::set_permissions(files.path(name), Permissions::from_mode(mode)).expect("set");
        }
    };
    mode(0o644);
    let mut running = Running::start([files.tls_flags(), files.users_flags()].concat());
    let said = warned(&running.relay.log_lines("ready for"));
    for name in [KEY, USERS] {
        let path = text(&files.path(name));
        let line = format!("{} {path}{MAY_BE_READ}{path}", flag(name));
        assert!(said.iter().any(|said| said.trim_end().ends_with(&line)), "{line}: {said:?}");
    }
    assert_eq!(said.len(), 2);
    for (of, count) in [(0o640, 0), (0o642, 2)] {
        mode(of);
        running.relay.signal(Signal::HUP);
        let mut lines = running.relay.log_lines(USERS_ARE_READ);
        running.relay.signal(Signal::USR1);
        lines.extend(running.relay.log_lines("; frames in "));
        assert_eq!(warned(&lines).len(), count, "{lines:?}");
    }
}

#[test]
fn a_certificate_that_ends_while_the_relay_runs_is_told_of() {
    let files = Files::new();
    files.make_pair(of_a_moment);
    let mut running = Running::start(files.tls_flags());
    let path = text(&files.path(CERT));
    let line = running.relay.log_line("[WARN] --tls-cert");
    assert!(line.contains(&format!("{path}: the certificate ends on ")) && line.contains("within a day"), "{line}");
    let line = running.relay.log_line("[ERROR]");
    assert!(line.contains(&format!("--tls-cert {path}: the certificate has ended on ")), "{line}");
}

#[test]
fn what_can_be_used_and_will_be_of_no_use_is_warned_of() {
    let files = Files::new();
    let start = |flags: Vec<String>| Running::start(flags).relay.log_lines("ready for").concat();
    let no_client =
        |why: &str| format!("--tls-cert {}: no client will take the certificate: {why}", text(&files.path(CERT)));
    files.make_pair(client);
    assert!(start(files.tls_flags()).contains(&no_client("it is not meant for a server")));
    files.make_pair(nameless);
    assert!(start(files.tls_flags()).contains(&no_client("it names no host")));
    files.make_good();
    assert!(!start(files.tls_flags()).contains("no client will take"));

    files.write(USERS, users(&["ada"]) + "eve certificate\n");
    let by_certificate = "nobody can come in by a certificate: add a tls:// listener and --tls-client-ca";
    let mut flags = files.tls_flags();
    assert!(!start([flags.clone(), files.users_flags()].concat()).contains(by_certificate));
    flags.truncate(flags.iter().position(|flag| flag == "--tls-client-ca").expect("it is there"));
    assert!(start([flags, files.users_flags()].concat()).contains(by_certificate));
}
