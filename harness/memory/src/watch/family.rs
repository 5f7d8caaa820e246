//! The command and all that it begot: begun in a process group of its own, signalled by system call, left without zombies.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{self, Pid, Signal, WaitOptions};
use traintrue_protocol::lanes::process::Process;

use super::sparing::Sparing;
use crate::tree::Tree;

/// However large the tree, newcomers are found within this time.
const LOOKED_FOR_WITHIN: Duration = Duration::from_secs(1);

/// A command that was begun, and its descendants.
#[derive(Debug)]
pub struct Family {
    child: Child,
    group: Pid,
    exit: Option<ExitStatus>,
    tree: Tree,
    look: Sparing,
}

impl Family {
    /// Begins `command`. This process becomes the one that orphans fall to, so whoever leaves the group or loses its
    /// parent is still found beneath it. Fails where the command cannot be started.
    pub fn begin(command: &mut Command) -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        process::set_child_subreaper(Some(process::getpid()))?;
        let child = command.process_group(0).spawn()?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::Other)?;
        let tree = Tree::beneath(process::getpid().as_raw_nonzero().get());
        Ok(Self { child, group, exit: None, tree, look: Sparing::new(Duration::ZERO, LOOKED_FOR_WITHIN) })
    }

    /// The output and the complaints of the command, where they were asked for.
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

    /// Resident memory of all together.
    pub fn rss_bytes(&mut self) -> u64 {
        let tree = &mut self.tree;
        let looked = self.look.when_due(|| tree.refresh());
        if looked.is_some() {
            self.reap();
        }
        self.tree.rss_bytes()
    }

    /// Resident memory of all, with shared pages counted once. Dear.
    pub fn pss_bytes(&self) -> u64 {
        self.tree.pss_bytes()
    }

    /// Whether a pid is one of them.
    pub fn has(&self, pid: i32) -> bool {
        self.tree.has(pid)
    }

    /// Those who live now.
    pub fn living(&mut self) -> Vec<i32> {
        self.tree.refresh();
        self.reap();
        self.tree.living().map(|(pid, _)| pid).collect()
    }

    /// Passes a signal on to the group. After the command ended its number may be another's, and nothing is sent.
    pub fn forward(&self, signal: Signal) {
        if self.exit.is_none() {
            // Fails only where nobody is left in it.
            let _ = process::kill_process_group(self.group, signal);
        }
    }

    /// Sends a signal to all: to the group at once, and to each who left it.
    pub fn signal(&mut self, signal: Signal) {
        self.forward(signal);
        self.tree.refresh();
        let in_group = self.exit.is_none().then(|| self.group.as_raw_nonzero().get());
        for (pid, known) in self.tree.living().filter(|(_, known)| Some(known.group) != in_group) {
            // A pid is nobody for good: only who began then is meant.
            let same = Process::with_pid(pid).stat().is_some_and(|now| now.began == known.began);
            if let Some(pid) = Pid::from_raw(pid).filter(|_| same) {
                let _ = process::kill_process(pid, signal);
            }
        }
    }

    /// Takes note of orphans that ended. The command itself is waited for by its own handle.
    fn reap(&mut self) {
        let own = self.group.as_raw_nonzero().get();
        for pid in self.tree.ended_children().filter(|pid| *pid != own).filter_map(Pid::from_raw) {
            let _ = process::waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}
