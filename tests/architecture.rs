//! The laws of the house, as `docs/ARCHITECTURE.md` states them: who may know whom, who may read a clock, and
//! that the document and the code speak of the same rooms.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room of the library, and the rooms that it may know. A room that is not listed may know nobody.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("harmless", &[]),
    ("origin", &[]),
    ("planted", &[]),
    ("outgoing", &[]),
    ("throttle", &["time"]),
    ("wire", &["planted"]),
    ("auth", &["origin", "time", "wire"]),
    ("reactor", &["origin", "outgoing", "planted", "time"]),
    ("relay", &["auth", "origin", "outgoing", "planted", "throttle", "time", "wire"]),
    ("config", &["auth", "reactor", "relay", "wire"]),
    ("descriptors", &[]),
    ("files", &[]),
    ("server", &["auth", "config", "descriptors", "files", "origin", "outgoing", "reactor", "relay", "time", "wire"]),
    ("client", &["auth", "wire"]),
    ("bench", &["auth", "client", "descriptors", "harmless", "outgoing", "reactor", "time", "wire"]),
    ("cli", &["auth", "bench", "client", "config", "files", "harmless", "server", "wire"]),
];

/// Words that a room must not use: what it must not know of the world outside.
const MUST_NOT_SAY: &[(&str, &[&str])] = &[
    ("time", &["Instant", "SystemTime"]),
    ("throttle", &["Instant", "SystemTime"]),
    ("wire", &["std::net", "mio::", "socket2", "Instant", "SystemTime", "std::time"]),
    ("auth", &["std::net", "mio::", "socket2", "rustix", "Instant", "SystemTime", "std::fs", "println!"]),
    ("relay", &["std::net", "mio::", "socket2", "rustix", "Instant", "SystemTime", "println!"]),
    ("server", &["Instant", "SystemTime"]),
    ("config", &["Instant", "SystemTime"]),
];

/// The rooms in which people or scripts wait, or time is what is measured: they may look at a clock themselves.
const MAY_READ_A_CLOCK: &[&str] = &["bench", "client", "cli"];
/// The one file that does so for the loop.
const THE_CLOCK: &str = "src/reactor/clock.rs";

/// Where something is asserted that no peer and no person can make untrue, and why.
const MAY_EXPECT: &[(&str, &str)] = &[
    ("src/wire/header.rs", "the decoder hands out whole frames only"),
    ("src/bench/fleet.rs", "the bounds of a histogram are constants"),
];

/// A file should fit a sitting.
const LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

struct Source {
    path: String,
    room: String,
    /// Without comments, and without the tests at its end.
    code: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    let mut sources = Vec::new();
    for file in files {
        let path = file.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&file).expect("a source file");
        let inner = path.trim_start_matches("src/");
        let room = inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs").to_owned();
        let is_test_file = path.ends_with("/tests.rs");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let code = if is_test_file { "" } else { code };
        let is_comment = |line: &&str| !line.trim_start().starts_with("//");
        let code = code.lines().filter(is_comment).collect::<Vec<_>>().join("\n");
        sources.push(Source { path, room, code, lines: text.lines().count() });
    }
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The rooms that `code` names: `crate::room`.
fn known(code: &str) -> BTreeSet<&str> {
    let names = code.split("crate::").skip(1);
    names.filter_map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next()).collect()
}

#[test]
fn each_room_knows_only_the_rooms_that_it_may() {
    for source in sources().iter().filter(|source| !matches!(source.room.as_str(), "lib" | "main")) {
        let (_, may) = MAY_KNOW.iter().find(|(room, _)| *room == source.room).unwrap_or_else(|| {
            panic!("{} is in a room that the laws do not list", source.path);
        });
        for room in known(&source.code) {
            // `pub(crate)` and macros of the crate are no rooms.
            if room.is_empty() || room == source.room || !MAY_KNOW.iter().any(|(name, _)| *name == room) {
                continue;
            }
            assert!(may.contains(&room), "{} must not know {room}", source.path);
        }
    }
}

#[test]
fn no_room_speaks_of_what_it_must_not_know() {
    for source in sources() {
        for (_, words) in MUST_NOT_SAY.iter().filter(|(room, _)| *room == source.room) {
            for word in *words {
                assert!(!source.code.contains(word), "{} must not say {word}", source.path);
            }
        }
    }
}

#[test]
fn whose_certificates_are_believed_is_decided_where_that_is_all_that_is_done() {
    // What rustls calls dangerous is a verifier of one's own. There is one, and one place in it that says yes by itself:
    // to a certificate that somebody has named, whose name and time have been checked in the lines before.
    for (word, places) in [
        ("dangerous()", &["src/client/tls/mod.rs"][..]),
        ("impl ServerCertVerifier", &["src/client/tls/trust.rs"]),
        ("ServerCertVerified::assertion", &["src/client/tls/trust.rs"]),
    ] {
        let mut found: Vec<String> = Vec::new();
        for source in sources() {
            found.extend(source.code.matches(word).map(|_| source.path.clone()));
        }
        found.sort_unstable();
        assert_eq!(found, places, "{word}");
    }
    let checked = "check_validity(certificate, now)?;\n            \
                   verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;\n            \
                   return Ok(ServerCertVerified::assertion());";
    let trust = sources().into_iter().find(|source| source.path == "src/client/tls/trust.rs").expect("it is there");
    assert!(trust.code.contains(checked), "what is checked before");
    // Nothing else can be set that a switch could hide in.
    let tls = sources().into_iter().find(|source| source.path == "src/client/tls/mod.rs").expect("it is there");
    let options =
        tls.code.split("pub struct Tls {").nth(1).and_then(|rest| rest.split('}').next()).expect("the options");
    let fields: Vec<&str> = options.lines().filter_map(|line| line.trim().strip_prefix("pub ")).collect();
    assert_eq!(fields, ["ca: Option<PathBuf>,", "identity: Option<Identity>,"]);
}

#[test]
fn only_the_loop_and_those_who_wait_read_a_clock() {
    for source in sources() {
        if source.path == THE_CLOCK || MAY_READ_A_CLOCK.contains(&source.room.as_str()) {
            continue;
        }
        for word in ["Instant::now", "SystemTime::now", "elapsed()"] {
            assert!(!source.code.contains(word), "{} reads a clock", source.path);
        }
    }
    let clock = sources().into_iter().find(|source| source.path == THE_CLOCK).expect("the clock is there");
    assert!(clock.code.contains("Instant::now"));
}

#[test]
fn nothing_that_a_peer_can_reach_gives_up() {
    for source in sources() {
        if MAY_EXPECT.iter().any(|(path, _)| *path == source.path) {
            continue;
        }
        for word in [".unwrap()", ".expect(", "panic!(", "unreachable!(", "todo!(", "unimplemented!("] {
            // What compares state for tests may fail as tests do.
            let checks = source.code.split("fn check_consistency").next().unwrap_or_default();
            assert!(!checks.contains(word), "{} says {word}", source.path);
        }
    }
}

#[test]
fn no_file_is_longer_than_a_sitting() {
    for source in sources() {
        assert!(source.lines <= LINES_MAX, "{} has {} lines: split it", source.path, source.lines);
    }
}

#[test]
fn the_document_lists_every_room_and_none_that_is_not_there() {
    let document = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the document");
    // The rows of the tables of rooms: | `place` | job | ...
    let listed: BTreeSet<String> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|place| place.starts_with("src/"))
        .map(str::to_owned)
        .collect();
    for place in &listed {
        assert!(root().join(place).exists(), "the document lists {place}, which is not there");
    }
    for source in sources() {
        let is_listed = listed.contains(&source.path)
            || listed.iter().any(|place| place.ends_with('/') && source.path.starts_with(place.as_str()));
        assert!(is_listed, "the document does not list {}", source.path);
    }
}

#[test]
fn no_async_runtime_is_among_the_dependencies() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("the lock file");
    for runtime in ["tokio", "async-std", "smol", "async-executor", "futures-executor", "monoio", "glommio"] {
        assert!(!lock.contains(&format!("name = \"{runtime}\"")), "{runtime} has come in");
    }
}
