//! Where `join` reads lines and shows them: a terminal with line editing, or plain pipes.
//!
//! A terminal shows lines while another is being typed: the editor takes them away and puts them back. It may
//! keep its writer waiting until the next line is edited, so a thread of its own writes, and nobody waits for it.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};

use super::super::Trouble;

/// How long the last lines may take to reach the terminal before the command ends regardless.
const LAST_LINES_TIMEOUT: Duration = Duration::from_millis(300);
/// The longest line that is read from a pipe, in bytes: the largest payload of any relay.
const LINE_BYTES_MAX: u64 = crate::wire::PAYLOAD_BYTES_CEILING as u64;

/// What comes from the person or the pipe.
#[derive(Debug)]
pub(super) enum Input {
    Line(String),
    /// The end of a pipe.
    End,
    /// Ctrl-C or Ctrl-D in the editor.
    Quit,
    /// The input could not be read.
    Failed(String),
}

/// The showing side.
pub(super) struct Screen {
    printer: Option<Sender<Shown>>,
    restore: Option<Termios>,
}

enum Shown {
    Text(String),
    Flush(Sender<()>),
}

/// Asks the reading thread for its next line, with the prompt to show.
pub(super) type Prompts = Sender<String>;

impl Screen {
    /// Starts the threads. Nothing is read before the first prompt is sent.
    pub(super) fn open(take: impl Fn(Input) -> bool + Send + 'static) -> Result<(Self, Prompts), Trouble> {
        let (prompts, asked) = mpsc::channel();
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            thread::spawn(move || read_plain(&asked, &take));
            return Ok((Self { printer: None, restore: None }, prompts));
        }
        let restore = tcgetattr(io::stdin()).ok();
        let fault = |error: ReadlineError| Trouble::System(format!("cannot use the terminal: {error}"));
        let mut editor = DefaultEditor::new().map_err(fault)?;
        // A terminal without cursor movement has no such printer; lines are then shown as they come.
        let printer = editor.create_external_printer().ok().map(|printer| {
            let (sender, lines) = mpsc::channel();
            thread::spawn(move || print_lines(printer, &lines));
            sender
        });
        thread::spawn(move || read_edited(editor, &asked, &take));
        Ok((Self { printer, restore }, prompts))
    }

    /// A person sits there and edits lines.
    pub(super) const fn is_terminal(&self) -> bool {
        self.restore.is_some()
    }

    /// Shows a text of one or more lines, without its last end of line.
    pub(super) fn show(&self, text: &str) -> Result<(), Trouble> {
        if let Some(printer) = &self.printer {
            // Its thread ends only with the process.
            let _ = printer.send(Shown::Text(format!("{text}\n")));
        } else {
            let mut out = io::stdout().lock();
            writeln!(out, "{text}").and_then(|()| out.flush())?;
        }
        Ok(())
    }

    /// Shows what is left and gives the terminal back as it was, though a line may still be being edited.
    pub(super) fn close(self, editing: bool) {
        if let Some(printer) = &self.printer {
            let (done, wait) = mpsc::channel();
            let _ = printer.send(Shown::Flush(done));
            let _: Result<(), RecvTimeoutError> = wait.recv_timeout(LAST_LINES_TIMEOUT);
        }
        let Some(termios) = &self.restore else { return };
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, termios);
        if editing {
            // The editor had asked the terminal to mark pasted text; its prompt's line is left behind.
            let _ = io::stdout().lock().write_all(b"\x1b[?2004l\r\n");
        }
    }
}

fn print_lines(mut printer: impl ExternalPrinter, lines: &Receiver<Shown>) {
    for shown in lines {
        match shown {
            // A terminal that is gone shows in the reading as well.
            Shown::Text(text) => drop(printer.print(text)),
            Shown::Flush(done) => drop(done.send(())),
        }
    }
}

fn read_edited(mut editor: DefaultEditor, asked: &Receiver<String>, take: &impl Fn(Input) -> bool) {
    for prompt in asked {
        let input = match editor.readline(&prompt) {
            Ok(line) => {
                let _ = editor.add_history_entry(line.as_str());
                Input::Line(line)
            }
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => Input::Quit,
            Err(error) => Input::Failed(format!("cannot read the terminal: {error}")),
        };
        if !take(input) {
            return;
        }
    }
}

fn read_plain(asked: &Receiver<String>, take: &impl Fn(Input) -> bool) {
    let mut input = io::stdin().lock();
    for _ in asked {
        let mut line = Vec::new();
        let mut bounded = io::Read::take(&mut input, LINE_BYTES_MAX);
        let read = match bounded.read_until(b'\n', &mut line) {
            Ok(0) => Input::End,
            Ok(_) => Input::Line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned()),
            Err(error) => Input::Failed(format!("cannot read standard input: {error}")),
        };
        if !take(read) {
            return;
        }
    }
}
