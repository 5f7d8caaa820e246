//! Runs a command under ptrace and shows each file operation, before and after, to who watches.
//!
//! Every thread stops at the entry and at the exit of every system call, and goes on when this thread lets it. While
//! a watcher looks at `{out}`, no other thread of the command can begin a system call: `{out}` is what SIGKILL would
//! leave.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rustix::process as rx;

use super::operation::{self, Operation};
use super::thread::Thread;

/// The shell stops itself before it becomes the command, so that the command is traced from its first instruction.
const STOPPED: &str = r#"kill -STOP $$; exec "$@""#;

/// Sees the file operations of a traced command.
pub trait Watch {
    /// What is kept from before an operation until after it.
    type Held;
    /// The operation is about to happen.
    fn enter(&mut self, operation: &Operation) -> io::Result<Self::Held>;
    /// The operation has succeeded.
    fn leave(&mut self, operation: Operation, held: Self::Held);
}

/// How a traced command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// By itself.
    Exited(i32),
    /// By a signal.
    Signalled(i32),
    /// It took longer than it may, and was killed.
    TimedOut,
}

/// A command to run.
#[derive(Debug)]
pub struct Errand<'a> {
    /// The program and its arguments.
    pub words: &'a [OsString],
    /// `{out}`, without links in its path.
    pub root: &'a Path,
    /// Gets standard output and standard error.
    pub log: &'a Path,
    /// It is killed when it takes longer.
    pub limit: Option<Duration>,
}

/// Runs the command to its end. What it leaves running is killed.
pub fn run(errand: &Errand, watch: &mut impl Watch) -> io::Result<Status> {
    let log = File::create(errand.log)?;
    let child = Command::new("/bin/sh")
        .args(["-c", STOPPED, "sh"])
        .args(errand.words)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let group = rx::Pid::from_child(&child);
    // A group that is gone needs no signal.
    let kill = || _ = rx::kill_process_group(group, rx::Signal::KILL);
    rx::waitpid(Some(group), rx::WaitOptions::UNTRACED)?;
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    if let Err(error) = ptrace::seize(pid, options) {
        kill();
        let _ = rx::waitpid(Some(group), rx::WaitOptions::empty());
        return Err(error.into());
    }
    rx::kill_process(group, rx::Signal::CONT)?;
    let late = AtomicBool::new(false);
    let (ended, end) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        if let Some(limit) = errand.limit {
            let (late, kill) = (&late, &kill);
            scope.spawn(move || {
                if end.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                    late.store(true, Ordering::Relaxed);
                    kill();
                }
            });
        }
        let mut tracer = Tracer { root: errand.root, alive: BTreeSet::new(), inside: HashMap::new(), watch };
        let status = tracer.follow(pid);
        drop(ended);
        // Also where following failed: nothing of the command may write on. Some may have left the group.
        kill();
        tracer.end();
        if late.load(Ordering::Relaxed) { Ok(Status::TimedOut) } else { status }
    })
}

/// The next news of any traced thread: which, and the status as the kernel gives it. nix's own call fails for signals
/// that it has no name for, and does not say whose they are.
fn wait() -> io::Result<(Pid, i32)> {
    // Only of this thread: another thread of ours may trace another command.
    let options = (libc::__WALL | libc::__WNOTHREAD).cast_unsigned();
    let options = rx::WaitOptions::from_bits_retain(options);
    loop {
        match rx::wait(options) {
            Ok(Some((pid, status))) => {
                return Ok((Pid::from_raw(pid.as_raw_nonzero().get()), status.as_raw()));
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

struct Tracer<'a, W: Watch> {
    root: &'a Path,
    /// Every thread that was heard of and has not ended.
    alive: BTreeSet<Pid>,
    /// Threads that are between the entry and the exit of a system call, and their operation, if it is one.
    inside: HashMap<Pid, Option<(Operation, W::Held)>>,
    watch: &'a mut W,
}

impl<W: Watch> Tracer<'_, W> {
    /// Until the first process of the command has ended.
    fn follow(&mut self, first: Pid) -> io::Result<Status> {
        loop {
            let (pid, status) = wait()?;
            if libc::WIFSTOPPED(status) {
                self.alive.insert(pid);
                let signal = self.stopped(pid, status)?;
                // A thread that was killed meanwhile cannot go on, and need not.
                let _ = ptrace::syscall(pid, signal);
                continue;
            }
            self.alive.remove(&pid);
            self.inside.remove(&pid);
            match (pid == first, libc::WIFEXITED(status)) {
                (true, true) => return Ok(Status::Exited(libc::WEXITSTATUS(status))),
                (true, false) => return Ok(Status::Signalled(libc::WTERMSIG(status))),
                (false, _) => {}
            }
        }
    }

    /// Kills what is left, and waits for it.
    fn end(&self) {
        let kill =
            |pid: Pid| rx::Pid::from_raw(pid.as_raw()).map(|pid| rx::kill_process(pid, rx::Signal::KILL));
        self.alive.iter().for_each(|pid| _ = kill(*pid));
        while let Ok((pid, status)) = wait() {
            if libc::WIFSTOPPED(status) {
                // It was started meanwhile.
                kill(pid);
            }
        }
    }

    /// Looks at a stopped thread; returns the signal that it must get.
    fn stopped(&mut self, pid: Pid, status: i32) -> io::Result<Option<Signal>> {
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        if signal == libc::SIGTRAP | 0x80 {
            self.at_system_call(pid)?;
        } else if event == libc::PTRACE_EVENT_EXEC {
            // The other threads are gone, and the caller may have got another number.
            self.inside.insert(pid, None);
        } else if event == 0 {
            return Ok(Signal::try_from(signal).ok());
        }
        Ok(None)
    }

    fn at_system_call(&mut self, pid: Pid) -> io::Result<()> {
        let thread = Thread(pid);
        match self.inside.remove(&pid) {
            None => {
                let operation = thread.entered().ok().and_then(|raw| operation::of(thread, raw, self.root));
                let held = match operation {
                    Some(operation) => Some((self.watch.enter(&operation)?, operation)),
                    None => None,
                };
                self.inside.insert(pid, held.map(|(held, operation)| (operation, held)));
            }
            Some(None) => {}
            Some(Some((operation, held))) => {
                if thread.returned().is_ok_and(|value| value >= 0) {
                    self.watch.leave(operation, held);
                }
            }
        }
        Ok(())
    }
}
