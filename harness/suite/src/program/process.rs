//! Attends to one child process: feeds it, keeps what it says, and sees to it that it ends.
//!
//! It never hangs and leaves no zombie: a child that takes too long, says too much or leaves others behind that hold its
//! output is killed with its whole process group, and waited for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::guardian;
use crate::interrupt;

/// How long a child may run and how much it may say.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// It is killed when it takes longer.
    pub timeout: Duration,
    /// It is killed at this age, on purpose.
    pub kill_after: Option<Duration>,
    /// It is killed once this is true, and it had time to notice by itself.
    pub given_up: Option<&'a AtomicBool>,
    /// It is killed when its output grows beyond this, or what it complains.
    pub output_bytes: u64,
    /// The file that its standard error goes to.
    pub complaints: &'a File,
}

impl Limits<'_> {
    fn complains_too_much(&self) -> bool {
        self.complaints.metadata().is_ok_and(|file| file.len() > self.output_bytes)
    }
}

/// Why a child runs no more.
#[derive(Debug)]
pub enum Stop {
    /// By itself.
    Exited(ExitStatus),
    /// On purpose.
    Killed,
    /// What it waited for will not come.
    GivenUp,
    /// It took too long.
    TimedOut,
    /// It said too much.
    TooLong,
}

/// How what a child says came to its end.
enum Copied {
    Whole,
    TooLong,
    Failed(io::Error),
}

/// A child that closed its output is about to exit; one that did not is looked at seldom.
const SOON: Duration = Duration::from_micros(300);
const SELDOM: Duration = Duration::from_millis(50);

/// How long others that hold a dead child's output may go on.
const GRACE: Duration = Duration::from_millis(500);

/// How long a process may take to notice that those it waits for are gone: its own words say where it waited.
const NOTICE: Duration = Duration::from_secs(5);

/// Runs `command` with `input` on its standard input and its standard output into `output`.
pub fn attend(
    mut command: Command,
    input: Vec<u8>,
    output: impl Write + Send + 'static,
    limits: Limits<'_>,
) -> io::Result<(Stop, Duration)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(limits.complaints.try_clone()?);
    let begun = Instant::now();
    let mut child = Attended::begin(&mut command)?;
    if let Some(mut stdin) = child.0.stdin.take() {
        // A child need not read its plan; the thread ends with the pipe.
        thread::spawn(move || stdin.write_all(&input));
    }
    let from = child.0.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    attend_to(child, begun, from, output, limits)
}

/// A process that runs, however it was started.
pub trait Process {
    /// Its status, once it has ended.
    fn poll(&mut self) -> io::Result<Option<ExitStatus>>;
    /// Kills it with all that it started.
    fn kill_group(&self);
    /// The same, and waits for its end.
    fn end(&mut self);
}

/// Attends to a process that has `begun`, whose standard output is `from`.
pub fn attend_to(
    mut process: impl Process,
    begun: Instant,
    from: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    limits: Limits<'_>,
) -> io::Result<(Stop, Duration)> {
    let copied = keep(from, output, limits.output_bytes);
    let mut open = true;
    let mut alone_since: Option<Instant> = None;
    let stop = loop {
        if let Some(status) = process.poll()? {
            break Stop::Exited(status);
        }
        let age = begun.elapsed();
        if interrupt::signal().is_some() || limits.kill_after.is_some_and(|at| age >= at) {
            break Stop::Killed;
        }
        if age >= limits.timeout {
            break Stop::TimedOut;
        }
        if limits.given_up.is_some_and(|it| it.load(Ordering::Relaxed))
            && alone_since.get_or_insert_with(Instant::now).elapsed() >= NOTICE
        {
            break Stop::GivenUp;
        }
        if limits.complains_too_much() {
            break Stop::TooLong;
        }
        let end = limits.kill_after.unwrap_or(limits.timeout).min(limits.timeout);
        let pause = end.saturating_sub(age).min(if open { SELDOM } else { SOON });
        if !open {
            thread::sleep(pause);
            continue;
        }
        match copied.recv_timeout(pause) {
            Ok(Copied::Whole) | Err(RecvTimeoutError::Disconnected) => open = false,
            Ok(Copied::TooLong) => break Stop::TooLong,
            Ok(Copied::Failed(error)) => return Err(error),
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    let wall = begun.elapsed();
    if !matches!(stop, Stop::Exited(_)) {
        process.end();
    }
    match drain(&process, &copied, open) {
        Some(Copied::TooLong) => Ok((Stop::TooLong, wall)),
        Some(Copied::Failed(error)) => Err(error),
        _ => Ok((stop, wall)),
    }
}

/// Copies what the child says on a thread of its own, up to `limit_bytes`.
fn keep(
    from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    limit_bytes: u64,
) -> Receiver<Copied> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let copied = io::copy(&mut from.take(limit_bytes + 1), &mut to);
        let copied = match copied.and_then(|bytes| to.flush().map(|()| bytes)) {
            Ok(bytes) if bytes > limit_bytes => Copied::TooLong,
            Ok(_) => Copied::Whole,
            Err(error) => Copied::Failed(error),
        };
        // Nobody listens any more where the grace was over.
        let _ = sender.send(copied);
    });
    receiver
}

/// Waits for the rest of what a dead child said; others that still hold its output are killed.
fn drain(process: &impl Process, copied: &Receiver<Copied>, open: bool) -> Option<Copied> {
    if !open {
        return None;
    }
    copied.recv_timeout(GRACE).ok().or_else(|| {
        process.kill_group();
        copied.recv_timeout(GRACE).ok()
    })
}

/// A child that does not outlive its attendant.
#[derive(Debug)]
pub struct Attended(pub Child);

impl Attended {
    /// Starts a child in a process group of its own, which ends with this process however that ends.
    pub fn begin(command: &mut Command) -> io::Result<Self> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        guardian::mark(command);
        let child = command.spawn()?;
        guardian::has(child.id());
        Ok(Self(child))
    }
}

impl Process for Attended {
    fn poll(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }

    fn kill_group(&self) {
        kill_group(self.0.id());
    }

    fn end(&mut self) {
        self.kill_group();
        // Both fail only where the child is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kills a whole process group.
#[cfg(unix)]
pub fn kill_group(leader: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let pid = i32::try_from(leader).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // Fails only where nobody is left in the group.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

#[cfg(not(unix))]
pub fn kill_group(_leader: u32) {}

impl Drop for Attended {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            self.end();
        }
        guardian::lets_go(self.0.id());
    }
}
