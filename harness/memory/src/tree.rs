//! A process tree: all descendants of one process, even if they changed their group, session or parent.

use std::collections::BTreeMap;
use std::fs;

use traintrue_protocol::lanes::process::{Identity, Process, Unlisted};

/// The descendants of one process, without the process itself.
///
/// If that process is a subreaper, orphans become its children and stay in the tree. Otherwise they leave it.
#[derive(Debug)]
pub struct Tree {
    root: i32,
    known: BTreeMap<i32, Identity>,
}

impl Tree {
    /// The descendants of `root` now.
    pub fn beneath(root: i32) -> Self {
        let mut tree = Self { root, known: BTreeMap::new() };
        tree.refresh();
        tree
    }

    /// Adds new descendants and drops those that ended.
    ///
    /// The kernel's list of children may omit a child while a sibling ends, so a known process stays until it has ended
    /// itself.
    pub fn refresh(&mut self) {
        // The kernel reuses pids, so the start time decides whether it is the same process.
        let began = |known: &Identity, now: &Identity| known.began == now.began;
        let mut still: BTreeMap<i32, Identity> = BTreeMap::new();
        for (pid, known) in &self.known {
            still.extend(identify(*pid).filter(|now| began(known, now)).map(|now| (*pid, now)));
        }
        let roots = still.keys().copied().chain([self.root]).collect();
        let found = descend(roots).unwrap_or_else(|Unlisted| scan(self.root));
        for pid in found {
            if let Some(now) = identify(pid) {
                still.insert(pid, now);
            }
        }
        self.known = still;
    }

    /// The living descendants, by pid.
    pub fn living(&self) -> impl Iterator<Item = (i32, &Identity)> {
        self.known.iter().filter(|(_, it)| !it.zombie).map(|(pid, it)| (*pid, it))
    }

    /// Children that ended and wait for the root to reap them.
    pub fn ended_children(&self) -> impl Iterator<Item = i32> {
        let ended = |it: &Identity| it.zombie && it.parent == self.root;
        self.known.iter().filter(move |(_, it)| ended(it)).map(|(pid, _)| *pid)
    }

    /// Whether a pid is in the tree.
    pub fn has(&self, pid: i32) -> bool {
        self.known.contains_key(&pid)
    }

    /// Resident memory of all descendants. Shared pages are counted once per process.
    pub fn rss_bytes(&self) -> u64 {
        self.living().filter_map(|(pid, _)| Process::with_pid(pid).rss_bytes()).sum()
    }

    /// The same with shared pages counted once, if the kernel lets us read it. Slow: the kernel walks every page table.
    pub fn pss_bytes(&self) -> u64 {
        let held = |process: Process| process.pss_bytes().or_else(|| process.rss_bytes());
        self.living().filter_map(|(pid, _)| held(Process::with_pid(pid))).sum()
    }
}

fn identify(pid: i32) -> Option<Identity> {
    Process::with_pid(pid).stat()
}

/// All descendants of `roots`, by the kernel's lists of children.
fn descend(roots: Vec<i32>) -> Result<Vec<i32>, Unlisted> {
    let (mut open, mut found) = (roots, Vec::new());
    while let Some(pid) = open.pop() {
        // A process that ended meanwhile has no children.
        let Some(children) = Process::with_pid(pid).children() else { continue };
        let new: Vec<i32> = children?.into_iter().filter(|child| !found.contains(child)).collect();
        open.extend(&new);
        found.extend(new);
    }
    Ok(found)
}

/// The same by reading every process's parent, for kernels without lists of children.
fn scan(root: i32) -> Vec<i32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parents: Vec<(i32, i32)> = pids.filter_map(|pid| Some((pid, identify(pid)?.parent))).collect();
    let (mut open, mut found) = (vec![root], Vec::new());
    while let Some(parent) = open.pop() {
        let children = parents.iter().filter(|(_, it)| *it == parent).map(|(pid, _)| *pid);
        open.extend(children.clone());
        found.extend(children);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[test]
    fn children_and_theirs_are_found_both_ways_until_they_end() {
        let script = "sleep 60 & (sleep 60 & echo ready; wait) & wait";
        let mut shell =
            Command::new("sh").args(["-c", script]).process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let root = i32::try_from(shell.id()).unwrap();
        let mut tree = Tree::beneath(root);
        let pids = |tree: &Tree| tree.living().map(|(pid, _)| pid).collect::<Vec<_>>();
        assert_eq!(pids(&tree).len(), 3, "two that sleep and a shell between");
        assert!(tree.living().all(|(pid, it)| tree.has(pid) && it.group == root));
        assert!(tree.rss_bytes() > 3 * 64 * 1024);
        let sorted = |mut pids: Vec<i32>| {
            pids.sort_unstable();
            pids
        };
        assert_eq!(sorted(scan(root)), pids(&tree));
        assert_eq!(descend(vec![root]).map(sorted).unwrap_or_else(|Unlisted| pids(&tree)), pids(&tree));
        let group = rustix::process::Pid::from_raw(root).unwrap();
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
        shell.wait().unwrap();
        while tree.living().next().is_some() {
            tree.refresh();
        }
        assert_eq!(tree.rss_bytes(), 0);
    }
}
