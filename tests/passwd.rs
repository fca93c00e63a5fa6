//! `switchboard passwd` as a person and as a script use it: what is asked and not shown, what becomes of the file.

mod client_support;
mod terminal_support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use client_support::{assert_code, run, stderr, stdout};
use serde_json::{Value, json};
use switchboard::auth::{Users, Verifier};
use tempfile::TempDir;
use terminal_support::AtTerminal;

/// So few that a test does not wait; nobody asks less of a client.
const FEW: [&str; 2] = ["--iterations", "4096"];
const SECRET: &str = "%secret AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";

struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn with(text: &str) -> Self {
        let scene = Self::new();
        fs::write(scene.file(), text).expect("written");
        fs::set_permissions(scene.file(), Permissions::from_mode(0o600)).expect("set");
        scene
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("users")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).expect("a file")
    }

    fn users(&self) -> Users {
        Users::parse(self.text()).expect("users")
    }

    fn passwd(&self, arguments: &[&str], input: &str) -> Output {
        let file = self.file();
        let arguments: Vec<&str> = ["passwd"].iter().chain(arguments).copied().chain(file.to_str()).collect();
        run("ignored:1", &arguments, input.as_bytes())
    }

    fn set(&self, user: &str, input: &str) -> Output {
        let file = self.file();
        let file = file.to_str().expect("UTF-8");
        run("ignored:1", &["passwd", "--stdin", FEW[0], FEW[1], file, user], input.as_bytes())
    }

    /// Asks for the password of `ada` at a terminal.
    fn at_terminal(&self) -> AtTerminal {
        AtTerminal::start(&["passwd", FEW[0], FEW[1], self.file().to_str().expect("UTF-8"), "ada"])
    }

    /// Whether this is the password of the user.
    fn is_password(&self, user: &str, password: &str) -> bool {
        let (key, verifier) = self.users().verifier_or_mock(user);
        let made = Verifier::from_password(password, verifier.iterations(), verifier.salt());
        key.is_some() && made == verifier
    }

    /// Nothing is left beside the file.
    fn assert_tidy(&self) {
        let names: Vec<_> =
            fs::read_dir(self.folder.path()).expect("a folder").flatten().map(|e| e.file_name()).collect();
        assert!(names.iter().all(|name| name == "users" || name == "link"), "{names:?}");
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").mode() & 0o777
}

#[test]
fn a_new_file_is_the_owners_alone_and_has_a_secret() {
    let scene = Scene::new();
    let output = scene.set("ada", "pencil\nand more\n");
    assert_code(&output, 0);
    assert_eq!(stderr(&output), "the password of ada is set\n");
    assert_eq!(mode(&scene.file()), 0o600);
    assert!(scene.text().starts_with("%secret "), "{}", scene.text());
    assert!(scene.is_password("ada", "pencil") && !scene.is_password("ada", "pencil\n"));
    assert_eq!(scene.users().verifier_or_mock("ada").1.iterations().get(), 4096);
    scene.assert_tidy();
    // A second time all is new but the secret.
    let before = scene.text();
    assert_code(&scene.set("ada", "other\r\n"), 0);
    assert!(scene.is_password("ada", "other") && !scene.is_password("ada", "pencil"));
    assert_eq!(scene.text().lines().next(), before.lines().next());
    assert_ne!(
        scene.users().verifier_or_mock("ada").1.salt(),
        Users::parse(before).expect("users").verifier_or_mock("ada").1.salt()
    );
}

#[test]
fn all_else_in_the_file_stays_with_its_mode_and_a_link_stays_a_link() {
    let scene = Scene::with(&format!("# who\n{SECRET}  ada certificate\t# the first\r\n\nbot\tcertificate admin=yes"));
    fs::set_permissions(scene.file(), Permissions::from_mode(0o640)).expect("set");
    let link = scene.folder.path().join("link");
    symlink("users", &link).expect("a link");
    let output =
        run("ignored:1", &["passwd", "--stdin", "--iterations", "4096", link.to_str().expect("UTF-8"), "ada"], b"x");
    assert_code(&output, 0);
    let (key, verifier) = scene.users().verifier_or_mock("ada");
    assert!(key.is_some());
    let expected = format!("# who\n{SECRET}  ada certificate {verifier}\t# the first\r\n\nbot\tcertificate admin=yes");
    assert_eq!(scene.text(), expected);
    assert_eq!(mode(&scene.file()), 0o640);
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
    scene.assert_tidy();
}

#[test]
fn a_token_is_printed_once_and_opens_and_another_stands_beside_it() {
    let scene = Scene::new();
    let tokens: Vec<String> = (0..2)
        .map(|_| {
            let output = run("ignored:1", &["passwd", "--token", scene.file().to_str().expect("UTF-8"), "bot"], b"");
            assert_code(&output, 0);
            stdout(&output).trim_end().to_owned()
        })
        .collect();
    let users = scene.users();
    for token in &tokens {
        assert!(token.starts_with("swb_") && token.len() == 47 && !scene.text().contains(token.as_str()), "{token}");
        assert_eq!(users.by_token(token.as_bytes()), users.find("bot"));
    }
    assert_ne!(tokens[0], tokens[1]);
    let output = scene.passwd(&["--check", "--json"], "");
    assert_eq!(serde_json::from_str::<Value>(&stdout(&output)).expect("JSON"), json!({"ok": true, "users": 1}));
    let file = scene.file();
    let output = run("ignored:1", &["passwd", "--token", "--json", file.to_str().expect("UTF-8"), "bot"], b"");
    let told: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!((&told["done"], &told["user"]), (&json!("token"), &json!("bot")));
    assert!(scene.users().by_token(told["token"].as_str().expect("text").as_bytes()).is_some());
}

#[test]
fn a_token_in_the_place_of_others_is_the_only_one_and_nobody_is_added() {
    let scene = Scene::new();
    let file = scene.file();
    let token = |more: &[&str], user: &str| {
        let file = file.to_str().expect("UTF-8");
        run("ignored:1", &[&["passwd", "--token"], more, &[file, user]].concat(), b"")
    };
    let old: Vec<String> = ["bot", "bot", "ada"].map(|user| stdout(&token(&[], user)).trim_end().to_owned()).into();
    let text = scene.text();
    let output = token(&["--replace"], "bto");
    assert_code(&output, 1);
    assert_eq!(stdout(&output), "");
    assert!(stderr(&output).contains("has no user \"bto\""), "{}", stderr(&output));
    assert_eq!(scene.text(), text);
    for more in [&["--replace"][..], &["--replace", "--json"]] {
        let output = token(more, "bot");
        assert_code(&output, 0);
        let new = if more.contains(&"--json") {
            let told: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
            assert_eq!((&told["done"], &told["user"]), (&json!("token"), &json!("bot")));
            told["token"].as_str().expect("text").to_owned()
        } else {
            assert_eq!(stderr(&output), "the only token of bot, shown this once:\n");
            stdout(&output).trim_end().to_owned()
        };
        let users = scene.users();
        assert_eq!(users.by_token(new.as_bytes()), users.find("bot"));
        assert!(users.by_token(old[0].as_bytes()).is_none() && users.by_token(old[1].as_bytes()).is_none());
        assert_eq!(users.by_token(old[2].as_bytes()), users.find("ada"));
        assert_eq!(scene.text().matches("token:").count(), 2, "{}", scene.text());
    }
    scene.assert_tidy();
}

#[test]
fn a_user_is_taken_out_with_its_line_and_nothing_else() {
    let scene = Scene::with(&format!("{SECRET}# ada\nada certificate # x\nbot certificate\n"));
    let file = scene.file();
    let remove = |user: &str| run("ignored:1", &["passwd", "--remove", file.to_str().expect("UTF-8"), user], b"");
    assert_code(&remove("ada"), 0);
    assert_eq!(scene.text(), format!("{SECRET}# ada\nbot certificate\n"));
    let output = remove("ada");
    assert_code(&output, 1);
    assert!(stderr(&output).contains("has no user \"ada\""), "{}", stderr(&output));
}

#[test]
fn who_is_taken_out_is_told_with_what_it_was_allowed_and_with_no_secret() {
    let verifier = Verifier::from_password("pencil", 4096.try_into().expect("some"), &[1; 16]).to_string();
    let token = format!("token:{}=", "A".repeat(43));
    let text = format!(
        "{SECRET}ada {verifier} join=tea,news/* {token} names='Ada L' certificate admin=no # her\nbot {verifier} # x\n"
    );
    let rights = ["join=tea,news/*", "names='Ada L'", "certificate", "admin=no"];
    for (user, rights) in [("ada", &rights[..]), ("bot", &[])] {
        let remove = |more: &[&str]| {
            let scene = Scene::with(&text);
            let file = scene.file();
            let file = file.to_str().expect("UTF-8");
            let output = run("ignored:1", &[&["passwd", "--remove"], more, &[file, user]].concat(), b"");
            assert_code(&output, 0);
            assert!(scene.users().find(user).is_none());
            output
        };
        let output = remove(&[]);
        let with = format!(", and with it {}: who is added again has the usual rights", rights.join(" "));
        let with = if rights.is_empty() { "" } else { &with };
        assert_eq!((stderr(&output), stdout(&output)), (format!("{user} is taken out{with}\n"), String::new()));
        let output = remove(&["--json"]);
        let told: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        assert_eq!(told, json!({"done": "remove", "user": user, "rights": rights}));
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn a_file_that_makes_no_sense_is_told_by_its_line_and_left_alone() {
    let text = format!("{SECRET}ada certificate\neve\n");
    let scene = Scene::with(&text);
    for output in [scene.set("ada", "x"), scene.passwd(&["--check"], "")] {
        assert_code(&output, 1);
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
        assert!(stderr(&output).contains("line 3: \"eve\" has no way in"), "{}", stderr(&output));
    }
    let output = scene.passwd(&["--check", "--json"], "");
    assert_code(&output, 1);
    let told: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!((&told["ok"], &told["line"]), (&json!(false), &json!(3)));
    assert_eq!(scene.text(), text);
    scene.assert_tidy();
    let scene = Scene::with(&format!("{SECRET}ada certificate\n"));
    assert_eq!(stdout(&scene.passwd(&["--check"], "")), "1 user\n");
    fs::set_permissions(scene.file(), Permissions::from_mode(0o644)).expect("set");
    let output = scene.passwd(&["--check"], "");
    assert_code(&output, 0);
    assert!(stderr(&output).contains("open to everybody"), "{}", stderr(&output));
}

#[test]
fn a_file_with_nobody_in_it_is_no_more_right_than_a_relay_finds_it() {
    for text in ["", "# nobody\n", SECRET] {
        let scene = Scene::with(text);
        let file = scene.file();
        let file = file.to_str().expect("UTF-8");
        let output = scene.passwd(&["--check"], "");
        assert_code(&output, 1);
        assert_eq!(stdout(&output), "");
        let why = "nobody is in it, so nobody could come in: `switchboard passwd` adds users";
        assert_eq!(stderr(&output), format!("switchboard: {file}: {why}\n"));
        let output = scene.passwd(&["--check", "--json"], "");
        assert_code(&output, 1);
        let told: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        assert_eq!(told, json!({"ok": false, "error": why}));
        let output = run("ignored:1", &["serve", "--listen", "127.0.0.1:0", "--users", file], b"");
        assert_code(&output, 1);
        assert_eq!(stderr(&output), format!("switchboard: --users {file}: {why}\n"));
        assert_code(&scene.set("ada", "x"), 0);
        assert_code(&scene.passwd(&["--check"], ""), 0);
    }
}

#[test]
fn a_dash_among_others_is_told_and_alone_it_is_fine() {
    let check = |rights: &str| Scene::with(&format!("{SECRET}ada certificate {rights}\n")).passwd(&["--check"], "");
    for rights in ["join=-,tea", "to=*,-"] {
        let output = check(rights);
        assert_code(&output, 1);
        let (key, _) = rights.split_once('=').expect("a pair");
        let says = format!(
            "line 2: {key}= has a - among others: it stands alone, for nothing; a name - is written \\-, in quotes\n"
        );
        assert!(stderr(&output).ends_with(&says), "{}", stderr(&output));
    }
    for rights in ["join=-", r"'join=tea,\-'", "to=-x,y-"] {
        assert_code(&check(rights), 0);
    }
}

#[test]
fn what_is_no_password_changes_nothing() {
    let scene = Scene::with(SECRET);
    for (input, says) in
        [("", "empty"), ("\n", "empty"), ("\r\nx", "empty"), ("a\0b\n", "zero byte"), (&"x".repeat(1025), "1024")]
    {
        let output = scene.set("ada", input);
        assert_code(&output, 1);
        assert!(stderr(&output).contains(says), "{input:?}: {}", stderr(&output));
    }
    let file = scene.file();
    let output = run("ignored:1", &["passwd", "--stdin", file.to_str().expect("UTF-8"), "ada"], b"\xff\n");
    assert!(stderr(&output).contains("not UTF-8"), "{}", stderr(&output));
    assert_eq!(scene.text(), SECRET);
    assert_code(&scene.set("ada", &"x".repeat(1024)), 0);
}

#[test]
fn what_makes_no_sense_exits_2_and_what_cannot_be_done_exits_1() {
    let scene = Scene::with(SECRET);
    let file = scene.file();
    let file = file.to_str().expect("UTF-8");
    for (arguments, says) in [
        (&["passwd"][..], "<FILE>"),
        (&["passwd", file], "<USER>"),
        (&["passwd", "--check", file, "ada"], "cannot be used with"),
        (&["passwd", "--token", "--remove", file, "ada"], "cannot be used with"),
        (&["passwd", "--token", "--stdin", file, "ada"], "cannot be used with"),
        (&["passwd", "--replace", file, "ada"], "not provided: --token"),
        (&["passwd", "--replace", "--stdin", file, "ada"], "cannot be used with"),
        (&["passwd", "--replace", "--iterations", "4096", file, "ada"], "cannot be used with"),
        (&["passwd", "--replace", "--remove", file, "ada"], "cannot be used with"),
        (&["passwd", "--replace", "--check", file], "cannot be used with"),
        (&["passwd", "--iterations", "4095", file, "ada"], "from 4096 to 2000000"),
        (&["passwd", "--iterations", "0", file, "ada"], "from 4096 to 2000000"),
        (&["passwd", "--token", file, "%x"], "cannot begin with %"),
        (&["passwd", "--token", file, " x"], "space at an end"),
        (&["passwd", "--token", file, &"x".repeat(65)], "65 bytes"),
    ] {
        let output = run("ignored:1", arguments, b"");
        assert_code(&output, 2);
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
    }
    let folder = scene.folder.path().to_str().expect("UTF-8");
    for (path, says) in [
        (folder, "it is a folder"),
        ("/nowhere/users", "cannot write /nowhere/users"),
        (&format!("{file}/x"), "cannot"),
    ] {
        let output = run("ignored:1", &["passwd", "--token", path, "ada"], b"");
        assert_code(&output, 1);
        assert!(stderr(&output).contains(says) && stdout(&output).is_empty(), "{path}: {}", stderr(&output));
    }
    let output = run("ignored:1", &["passwd", "--check", &format!("{file}2")], b"");
    assert_code(&output, 1);
    assert!(stderr(&output).contains("is not there"), "{}", stderr(&output));
}

#[test]
fn without_a_terminal_the_command_line_says_where_the_password_comes_from() {
    let scene = Scene::with(SECRET);
    // In a session of its own it has no terminal, wherever this test is run.
    let mut command = Command::new("setsid");
    command.args([client_support::BINARY, "passwd", FEW[0], FEW[1], scene.file().to_str().expect("UTF-8"), "ada"]);
    let output = command.stdin(Stdio::null()).output().expect("started");
    assert_code(&output, 2);
    let says = "switchboard: there is no terminal to ask for the password of \"ada\": use --stdin\n";
    assert_eq!((stderr(&output), stdout(&output)), (says.to_owned(), String::new()));
    assert_eq!(scene.text(), SECRET);
}

#[test]
fn many_at_once_lose_none_of_their_changes() {
    let scene = Scene::new();
    let file = scene.file();
    thread::scope(|scope| {
        for number in 0..8 {
            let file = file.to_str().expect("UTF-8");
            scope.spawn(move || {
                let output = run("ignored:1", &["passwd", "--token", file, &format!("bot{number}")], b"");
                assert_code(&output, 0);
            });
        }
    });
    assert_eq!(scene.users().len(), 8);
    scene.assert_tidy();
}

#[test]
fn a_person_is_asked_twice_and_shown_nothing_of_what_is_typed() {
    let scene = Scene::new();
    let mut terminal = scene.at_terminal();
    terminal.is_asked("New password of ada: ");
    terminal.types("pencil\n");
    terminal.is_asked("The same again: ");
    terminal.types("pencil\n");
    terminal.wait_for("the password of ada is set");
    assert!(terminal.child.wait().expect("ended").success());
    assert!(!terminal.rest().contains("pencil"), "{:?}", terminal.rest());
    assert!(scene.is_password("ada", "pencil"));
}

#[test]
fn two_different_passwords_are_none() {
    let scene = Scene::with(SECRET);
    let mut terminal = scene.at_terminal();
    terminal.is_asked("New password of ada: ");
    terminal.types("pencil\n");
    terminal.is_asked("The same again: ");
    terminal.types("pencils\n");
    terminal.wait_for("the two passwords differ: nothing is changed");
    assert_eq!(terminal.child.wait().expect("ended").code(), Some(1));
    assert_eq!(scene.text(), SECRET);
}

#[test]
fn who_interrupts_has_a_terminal_that_shows_again_what_is_typed() {
    let scene = Scene::with(SECRET);
    let mut terminal = scene.at_terminal();
    terminal.is_asked("New password of ada: ");
    terminal.types("pen");
    terminal.types("\u{3}");
    let status = terminal.child.wait().expect("ended");
    assert_eq!(status.signal(), Some(2), "{status:?}: who waits for it knows that it was interrupted");
    assert!(terminal.echoes());
    assert_eq!(scene.text(), SECRET);
}

#[test]
fn the_help_shows_a_file_that_is_one_and_every_word_that_it_can_have() {
    let help = stdout(&run("ignored:1", &["passwd", "--help"], b""));
    let format = help.split("begins a comment.").nth(1).expect("the format");
    let verifier = Verifier::from_password("pencil", 4096.try_into().expect("some"), &[1; 16]).to_string();
    let example = format.split("Ways in").next().expect("an example");
    let file = example
        .replace("%secret AAEC...   (made with the file: keep it)", SECRET.trim())
        .replace("SCRAM-SHA-256$...", &verifier)
        .replace("token:...", &format!("token:{}=", "A".repeat(43)));
    assert_eq!(Users::parse(file).map(|users| users.len()), Ok(3), "{example}");
    // What is not known is answered with all that is.
    let unknown = Users::parse("ada certificate nonsense=1".to_owned()).expect_err("an unknown word").to_string();
    let words: Vec<&str> =
        unknown.split([' ', ',']).filter(|word| word.ends_with('=') && *word != "\"nonsense=\"").collect();
    assert!(words.len() >= 8, "{unknown}");
    for word in words {
        assert!(format.contains(&format!("\n  {word}")), "{word} is not explained");
    }
}
