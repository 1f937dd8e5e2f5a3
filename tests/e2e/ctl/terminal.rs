//! A terminal (`pty(7)`) with a program on it: what a person types and sees.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;

use crate::lab::wait_until;

/// A terminal of 80 columns and 24 lines.
pub struct Terminal {
    master: File,
    slave: File,
    seen: String,
    /// Its settings before anything ran on it.
    before: String,
}

impl Terminal {
    pub fn new() -> Terminal {
        let pty = openpty(None, None).expect("a terminal");
        fcntl(&pty.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("reads that do not wait");
        let mut terminal = Terminal {
            master: pty.master.into(),
            slave: pty.slave.into(),
            seen: String::new(),
            before: String::new(),
        };
        terminal.resize(80, 24);
        terminal.before = terminal.settings();
        terminal
    }

    fn stdio(&self) -> Stdio {
        let copy: OwnedFd = self.slave.as_fd().try_clone_to_owned().expect("a copy");
        copy.into()
    }

    fn stty(&self, arguments: &[&str]) -> String {
        // What it is called on is its standard input.
        let mut stty = Command::new("stty");
        let output = stty.args(arguments).stdin(self.stdio()).output();
        let output = output.expect("run stty");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn settings(&self) -> String {
        self.stty(&["-g"])
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        self.stty(&["cols", &columns.to_string(), "rows", &rows.to_string()]);
    }

    /// Starts a program on it, as the leader of a session whose terminal this is.
    pub fn start(&self, words: &[&str], variables: &[(&str, &str)]) -> Child {
        let mut command = Command::new("setsid");
        command
            .arg("--ctty")
            .args(words)
            .env("TERM", "xterm")
            .envs(variables.iter().copied())
            .stdin(self.stdio())
            .stdout(self.stdio())
            .stderr(self.stdio());
        command.spawn().expect("run setsid")
    }

    pub fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("type");
    }

    /// All that was shown so far.
    fn look(&mut self) -> &str {
        let mut room = [0; 4096];
        while let Ok(count @ 1..) = self.master.read(&mut room) {
            self.seen += &String::from_utf8_lossy(&room[..count]);
        }
        &self.seen
    }

    /// Waits until it shows `text` after what was waited for before, and returns what it has shown until then.
    pub fn wait_for(&mut self, text: &str) -> String {
        let found = wait_until(&format!("{text:?} on the terminal"), || {
            let at = self.look().find(text)?;
            Some(at + text.len())
        });
        self.seen.drain(..found).collect()
    }

    /// Waits for the end of the program, and checks that the terminal is as it was before. Returns the rest that was shown,
    /// too.
    pub fn wait(&mut self, mut child: Child) -> (ExitStatus, String) {
        let status = wait_until("the end of a program on a terminal", || {
            self.look();
            child.try_wait().expect("wait for a child")
        });
        self.look();
        assert_eq!(self.settings(), self.before);
        (status, std::mem::take(&mut self.seen))
    }
}
