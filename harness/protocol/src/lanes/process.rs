//! What the system says of one process: resident memory, open handles, threads.
//!
//! Read from `/proc`, so on Linux alone; elsewhere the lanes are absent.

use std::collections::BTreeMap;

/// The lanes of this process: `rss_bytes`, `handles` and `threads`, as a `memory` event has them. A lane that cannot be
/// read is `None`; where the system has no `/proc` there is none.
///
/// Three short reads: cheap enough for every step.
pub fn own() -> BTreeMap<String, Option<u64>> {
    #[cfg(target_os = "linux")]
    {
        let this = Process::this();
        BTreeMap::from([
            ("rss_bytes".to_owned(), this.rss_bytes()),
            ("handles".to_owned(), this.handles()),
            ("threads".to_owned(), this.stat().map(|stat| stat.threads)),
        ])
    }
    #[cfg(not(target_os = "linux"))]
    BTreeMap::new()
}

#[cfg(target_os = "linux")]
pub use linux::{Identity, Process, Unlisted};

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::path::PathBuf;

    use procfs::FromRead;
    use procfs::process::{SmapsRollup, Stat, StatM};

    /// A process by its folder in `/proc`. It may be gone at any moment: each reading is an `Option`.
    #[derive(Clone, Debug)]
    pub struct Process(PathBuf);

    /// Who a process is and how many threads it has.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Identity {
        /// Its parent now: the parent of an orphan is who reaps it.
        pub parent: i32,
        /// Its process group.
        pub group: i32,
        /// When it began, in ticks since the machine did: with the pid it names a process for good.
        pub began: u64,
        /// Ended, and not yet waited for.
        pub zombie: bool,
        /// Its threads.
        pub threads: u64,
    }

    /// The kernel keeps no list of a process's children.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Unlisted;

    impl Process {
        /// This process.
        pub fn this() -> Self {
            Self("/proc/self".into())
        }

        /// The process with this pid.
        pub fn with_pid(pid: i32) -> Self {
            Self(format!("/proc/{pid}").into())
        }

        /// Resident memory. From `statm`: the kernel sums it exactly, where `stat` may be off by some pages a CPU.
        pub fn rss_bytes(&self) -> Option<u64> {
            let pages = StatM::from_file(self.0.join("statm")).ok()?.resident;
            Some(pages * procfs::page_size())
        }

        /// Resident memory, with what several processes share counted in parts that make one together. Dear: the kernel
        /// walks all pages. `None` for a process of another user, too.
        pub fn pss_bytes(&self) -> Option<u64> {
            let rollup = SmapsRollup::from_file(self.0.join("smaps_rollup")).ok()?;
            rollup.memory_map_rollup.iter().next()?.extension.map.get("Pss").copied()
        }

        /// Open handles. The folder's size is their number since Linux 6.2; before that it is 0, and they are counted.
        pub fn handles(&self) -> Option<u64> {
            let folder = self.0.join("fd");
            match fs::metadata(&folder).ok()?.len() {
                0 => Some(fs::read_dir(&folder).ok()?.count() as u64),
                handles => Some(handles),
            }
        }

        /// Who it is.
        pub fn stat(&self) -> Option<Identity> {
            let stat = Stat::from_file(self.0.join("stat")).ok()?;
            Some(Identity {
                parent: stat.ppid,
                group: stat.pgrp,
                began: stat.starttime,
                zombie: matches!(stat.state, 'Z' | 'X'),
                threads: u64::try_from(stat.num_threads).ok()?,
            })
        }

        /// The pids of its children, of whichever of its threads; `None` where it is gone. A kernel that does not list
        /// them (`CONFIG_PROC_CHILDREN`) is [`Unlisted`].
        pub fn children(&self) -> Option<Result<Vec<i32>, Unlisted>> {
            let mut children = Vec::new();
            for thread in fs::read_dir(self.0.join("task")).ok()?.flatten() {
                let thread = thread.path();
                match fs::read_to_string(thread.join("children")) {
                    Ok(pids) => {
                        children.extend(pids.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()))
                    }
                    Err(_) if thread.exists() => return Some(Err(Unlisted)),
                    // It ended meanwhile.
                    Err(_) => {}
                }
            }
            Some(Ok(children))
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::fs::File;
    use std::hint::black_box;
    use std::sync::Barrier;

    use super::*;

    fn lane(name: &str) -> u64 {
        own()[name].unwrap()
    }

    #[test]
    fn resident_memory_rises_by_what_is_touched() {
        let before = lane("rss_bytes");
        let held = black_box(vec![1_u8; 256 << 20]);
        let after = lane("rss_bytes");
        // Other tests of this process come and go beside.
        assert!(after > before + (128 << 20), "{before} and {after}, with {} held", held.len());
    }

    #[test]
    fn a_share_of_what_is_shared_is_no_more_than_all_of_it() {
        let this = Process::this();
        let (pss, rss) = (this.pss_bytes().unwrap(), this.rss_bytes().unwrap());
        // Others of this process grow and shrink it between the two.
        assert!(pss > 0 && pss < rss + (512 << 20), "{pss} of {rss}");
    }

    #[test]
    fn handles_and_threads_are_counted() {
        let files: Vec<File> = (0..200).map(|_| File::open("/dev/null").unwrap()).collect();
        let meet = Barrier::new(51);
        let lanes = std::thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| meet.wait());
            }
            let lanes = own();
            meet.wait();
            lanes
        });
        let more_than = |name: &str, count: u64| lanes[name].is_some_and(|it| it > count);
        assert!(more_than("handles", 200) && more_than("threads", 50), "{lanes:?}, {} files", files.len());
    }

    #[test]
    fn a_process_that_is_gone_has_no_lanes() {
        let gone = Process::with_pid(i32::MAX);
        assert_eq!(
            (gone.rss_bytes(), gone.handles(), gone.stat(), gone.children()),
            (None, None, None, None)
        );
    }
}
