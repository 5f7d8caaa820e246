//! Power loss: what is left when everything that was not synced is lost.
//!
//! The model is a journalling file system that delays data, as XFS and ext4 do:
//!
//! - Names are kept, in order: each mkdir, create, rename and unlink before the moment has reached the disk, also where the
//!   folder was not synced. Names that did not reach the disk leave what a kill at an earlier operation leaves.
//! - Data is kept up to the last fsync, fdatasync or sync of the file, and written through where it was opened with
//!   O_SYNC or O_DSYNC. A file that was made or emptied since and not synced is empty, under whatever name it has
//!   now. A file that was changed in place has its old content.
//! - What earlier saves wrote has reached the disk: the kernel writes data back within about 30 s.
//!
//! Not modelled: data that is lost in part or reaches the disk in another order, `sync_file_range`, `msync`, and the
//! flush that ext4 makes by itself when a rename replaces a file (`auto_da_alloc`; XFS has none).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::observe::Step;
use super::operation::Kind;
use super::tree::{Content, Store, Tree};

/// What the disk has of a file whose data is not synced.
#[derive(Clone, Copy, Debug)]
enum OnDisk {
    Nothing,
    Old(Content),
}

/// What a power loss just before step `at` leaves, when the steps before `start` have reached the disk.
pub fn lose(steps: &[Step], start: usize, at: usize, store: &mut Store) -> io::Result<Tree> {
    let mut disk = Disk::default();
    for step in &steps[start..at] {
        disk.see(step);
    }
    let mut tree = steps[at].before.clone();
    for (path, old) in disk.unsynced {
        let Some(now) = tree.content(&path) else { continue };
        let left = match old {
            OnDisk::Nothing => store.empty(now)?,
            OnDisk::Old(content) => content,
        };
        tree = tree.with(&path, left);
    }
    Ok(tree)
}

#[derive(Debug, Default)]
struct Disk {
    unsynced: BTreeMap<PathBuf, OnDisk>,
    write_through: BTreeSet<PathBuf>,
    /// Files elsewhere that were synced, and may be moved to `{out}`.
    synced_elsewhere: BTreeSet<PathBuf>,
}

impl Disk {
    fn see(&mut self, Step { operation, before }: &Step) {
        let path = &operation.path;
        if matches!(operation.kind, Kind::Create | Kind::Open) && operation.write_through {
            self.write_through.insert(path.clone());
        }
        match operation.kind {
            Kind::Create if !self.write_through.contains(path) => {
                self.unsynced.insert(path.clone(), OnDisk::Nothing);
            }
            Kind::Write | Kind::Resize if !self.write_through.contains(path) => {
                let old = before.content(path).map_or(OnDisk::Nothing, OnDisk::Old);
                self.unsynced.entry(path.clone()).or_insert(old);
            }
            Kind::Sync if path.is_absolute() => drop(self.synced_elsewhere.insert(path.clone())),
            Kind::Sync => {
                // The steps that follow may write to it again: what is in it now is kept.
                self.unsynced.remove(path);
            }
            Kind::SyncAll => self.unsynced.clear(),
            Kind::Rename => self.rename(path, operation.to.as_deref().unwrap_or(path)),
            Kind::Link => {
                if let (Some(old), Some(to)) = (self.unsynced.get(path).copied(), &operation.to) {
                    self.unsynced.insert(to.clone(), old);
                }
            }
            Kind::Remove => drop(self.unsynced.remove(path)),
            _ => {}
        }
    }

    /// Moves what is known of a file, or of all files in a folder.
    fn rename(&mut self, from: &Path, to: &Path) {
        self.unsynced.retain(|path, _| !path.starts_with(to));
        if from.is_absolute() && !self.synced_elsewhere.contains(from) {
            self.unsynced.insert(to.to_owned(), OnDisk::Nothing);
        }
        let moved: Vec<_> = self.unsynced.extract_if(.., |path, _| path.starts_with(from)).collect();
        for (path, old) in moved {
            // `join` of nothing would end the name of a file with a slash.
            let renamed = match path.strip_prefix(from) {
                Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
                Ok(rest) => to.join(rest),
                Err(_) => continue,
            };
            self.unsynced.insert(renamed, old);
        }
    }
}
