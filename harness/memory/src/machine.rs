//! The machine's memory, total and available.

use std::fs;
use std::path::Path;

use procfs::{FromRead, Meminfo};

use super::bytes::Bytes;

/// The memory that a process may use before the kernel kills it: the machine's, or less if a control group (container,
/// batch job) sets a limit. `None` if the system does not say.
pub fn capacity() -> Option<Bytes> {
    let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let kept_below = group_limit(Path::new("/sys/fs/cgroup"), &group);
    let machine = Meminfo::from_file("/proc/meminfo").ok().map(|it| it.mem_total);
    machine.into_iter().chain(kept_below).min().map(Bytes)
}

/// The memory that the kernel can still give without swapping.
pub fn available() -> Option<Bytes> {
    Meminfo::from_file("/proc/meminfo").ok()?.mem_available.map(Bytes)
}

/// The lowest `memory.max` from the group in `/proc/self/cgroup` up to `root`: a parent's limit applies to its
/// children.
fn group_limit(root: &Path, groups: &str) -> Option<u64> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = root.join(group);
    let limit = |folder: &Path| fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse().ok();
    folder.ancestors().take_while(|folder| folder.starts_with(root)).filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_no_more_than_the_machine_has() {
        let total = Meminfo::from_file("/proc/meminfo").unwrap().mem_total;
        assert!(available().unwrap() <= Bytes(total) && capacity().unwrap() <= Bytes(total));
    }

    #[test]
    fn the_tightest_group_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        let job = root.path().join("batch/job");
        fs::create_dir_all(&job).unwrap();
        fs::write(root.path().join("batch/memory.max"), "1048576\n").unwrap();
        fs::write(job.join("memory.max"), "max\n").unwrap();
        let limit = |groups| group_limit(root.path(), groups);
        assert_eq!(limit("1:name=systemd:/\n0::/batch/job\n"), Some(1_048_576));
        assert_eq!(limit("0::/\n"), None);
        assert_eq!(limit(""), None);
    }
}
