//! The command and its descendants: started in their own process group, signalled by system call, reaped when they end.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{self, Pid, Signal, WaitOptions};
use traintrue_protocol::lanes::process::Process;

use super::throttle::Throttle;
use crate::tree::Tree;

/// New descendants are found within this time, even in a large tree.
const FOUND_WITHIN: Duration = Duration::from_secs(1);

/// A running command and its descendants.
#[derive(Debug)]
pub struct Processes {
    child: Child,
    group: Pid,
    exit: Option<ExitStatus>,
    tree: Tree,
    look: Throttle,
}

impl Processes {
    /// Starts `command`. This process becomes a subreaper, so a descendant that leaves the group or loses its parent is
    /// still found below it. Fails if the command cannot be started.
    pub fn begin(command: &mut Command) -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        process::set_child_subreaper(Some(process::getpid()))?;
        let child = command.process_group(0).spawn()?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::Other)?;
        let tree = Tree::beneath(process::getpid().as_raw_nonzero().get());
        Ok(Self { child, group, exit: None, tree, look: Throttle::new(Duration::ZERO, FOUND_WITHIN) })
    }

    /// The child process, whose output streams the watcher takes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How the command ended, if it has.
    pub fn exit(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait()?;
        }
        Ok(self.exit)
    }

    /// Resident memory of all processes.
    pub fn rss_bytes(&mut self) -> u64 {
        let tree = &mut self.tree;
        let looked = self.look.when_due(|| tree.refresh());
        if looked.is_some() {
            self.reap();
        }
        self.tree.rss_bytes()
    }

    /// Resident memory of all processes, with shared pages counted once. Slow.
    pub fn pss_bytes(&self) -> u64 {
        self.tree.pss_bytes()
    }

    /// Whether a pid belongs to the command.
    pub fn has(&self, pid: i32) -> bool {
        self.tree.has(pid)
    }

    /// The processes that are alive now.
    pub fn living(&mut self) -> Vec<i32> {
        self.tree.refresh();
        self.reap();
        self.tree.living().map(|(pid, _)| pid).collect()
    }

    /// Forwards a signal to the group. Sends nothing after the command has ended, because its group id may be reused.
    pub fn forward(&self, signal: Signal) {
        if self.exit.is_none() {
            // Fails only if the group is empty.
            let _ = process::kill_process_group(self.group, signal);
        }
    }

    /// Sends a signal to all processes: to the group at once, and to each process that left it.
    pub fn signal(&mut self, signal: Signal) {
        self.forward(signal);
        self.tree.refresh();
        let in_group = self.exit.is_none().then(|| self.group.as_raw_nonzero().get());
        for (pid, known) in self.tree.living().filter(|(_, known)| Some(known.group) != in_group) {
            // A pid may be reused, so only a process with the same start time gets the signal.
            let same = Process::with_pid(pid).stat().is_some_and(|now| now.began == known.began);
            if let Some(pid) = Pid::from_raw(pid).filter(|_| same) {
                let _ = process::kill_process(pid, signal);
            }
        }
    }

    /// Reaps orphans that ended. The command itself is reaped through its own handle.
    fn reap(&mut self) {
        let own = self.group.as_raw_nonzero().get();
        for pid in self.tree.ended_children().filter(|pid| *pid != own).filter_map(Pid::from_raw) {
            let _ = process::waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}
