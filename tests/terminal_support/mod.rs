//! A command at a terminal of its own: what a person types, and what is shown.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");
/// After so long nothing is waited for any more.
const PATIENCE: Duration = Duration::from_secs(30);

/// The command at a terminal of its own.
pub(crate) struct AtTerminal {
    pub(crate) child: Child,
    keyboard: fs::File,
    shown: Receiver<u8>,
    seen: String,
}

impl AtTerminal {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&terminal).expect("granted");
        unlockpt(&terminal).expect("unlocked");
        let name = ptsname(&terminal, Vec::new()).expect("a name");
        // The first terminal that the leader of a session opens is its own: so it is the shell that opens it.
        let script = "exec <\"$0\" >\"$0\" 2>&1; exec \"$@\"";
        let child = Command::new("setsid")
            .args(["sh", "-c", script, name.to_str().expect("UTF-8")])
            .arg(BINARY)
            .args(arguments)
            // Nobody listens there.
            .env("SWITCHBOARD_ADDR", "127.0.0.1:1")
            .env_remove("SWITCHBOARD_PASSWORD")
            .env_remove("SWITCHBOARD_TOKEN")
            .stdin(Stdio::null())
            .spawn()
            .expect("started");
        let mut screen = fs::File::from(terminal.try_clone().expect("another handle"));
        let (sender, shown) = mpsc::channel();
        thread::spawn(move || {
            let mut byte = [0];
            while matches!(screen.read(&mut byte), Ok(1)) && sender.send(byte[0]).is_ok() {}
        });
        Self { child, keyboard: fs::File::from(terminal), shown, seen: String::new() }
    }

    /// Reads until the screen ends with `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        while !self.seen.ends_with(text) {
            let byte = self.shown.recv_timeout(PATIENCE);
            self.seen
                .push(char::from(byte.unwrap_or_else(|error| panic!("no {text:?} behind {:?}: {error}", self.seen))));
        }
    }

    /// All that was shown, once the command has ended.
    #[allow(dead_code, reason = "not every test asks")]
    pub(crate) fn rest(&mut self) -> &str {
        self.seen.extend(self.shown.iter().map(char::from));
        &self.seen
    }

    /// Waits for a question, and until what is typed is not shown any more, which comes a moment later.
    pub(crate) fn is_asked(&mut self, question: &str) {
        self.wait_for(question);
        let start = Instant::now();
        while self.echoes() {
            assert!(start.elapsed() < PATIENCE, "it shows what is typed");
            thread::yield_now();
        }
    }

    /// Whether the terminal shows what is typed.
    pub(crate) fn echoes(&self) -> bool {
        tcgetattr(&self.keyboard).expect("a terminal").local_modes.contains(LocalModes::ECHO)
    }

    pub(crate) fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("typed");
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
