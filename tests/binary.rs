//! The real binary, run as a user runs it.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    /// Its exit status.
    pub exit: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Runs `traintrue` with these arguments and nothing on its standard input.
pub fn traintrue<A: AsRef<OsStr>>(arguments: &[A]) -> Ran {
    traintrue_reading(b"", arguments)
}

/// Runs `traintrue` with these arguments in this folder.
pub fn traintrue_in<A: AsRef<OsStr>>(folder: &Path, arguments: &[A]) -> Ran {
    ran(folder, b"", arguments)
}

/// Runs `traintrue` with `input` on its standard input.
pub fn traintrue_reading<A: AsRef<OsStr>>(input: &[u8], arguments: &[A]) -> Ran {
    ran(Path::new("."), input, arguments)
}

fn ran<A: AsRef<OsStr>>(folder: &Path, input: &[u8], arguments: &[A]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_traintrue"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("it has a standard input");
    // A command that refuses its arguments does not read its input.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("it writes UTF-8");
    let ran = Ran {
        exit: output.status.code().expect("it is not killed"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    };
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    ran
}

impl Ran {
    /// The one document on standard output; fails where there is anything else.
    pub fn document<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The events of this name, where standard output is a trace.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let lines =
            self.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of a trace"));
        lines.filter(|event| event["event"] == name).collect()
    }

    /// The same, where the command is expected to end so.
    pub fn with_exit(self, expected: i32) -> Self {
        assert_eq!(self.exit, expected, "stderr: {}\nstdout: {}", self.stderr, self.stdout);
        self
    }
}
