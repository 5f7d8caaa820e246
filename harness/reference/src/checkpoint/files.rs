//! The file operations of a checkpoint, on a disk, or in a process that dies before one of them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The six operations that write a checkpoint. An operation happens or fails; none is retried.
pub trait Files {
    /// Makes a folder and its parents.
    fn create_folder(&mut self, path: &Path) -> io::Result<()>;
    /// Writes a whole file. Until a sync, a power cut may lose it.
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Syncs a file to the disk.
    fn sync(&mut self, path: &Path) -> io::Result<()>;
    /// Renames a file or folder.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Syncs a folder's list of names to the disk: without it, a power cut may undo a rename.
    fn sync_folder(&mut self, path: &Path) -> io::Result<()>;
    /// Removes a folder and its content.
    fn remove_folder(&mut self, path: &Path) -> io::Result<()>;
    /// The number of operations so far.
    fn operations(&self) -> u64;
}

/// The real disk.
#[derive(Debug, Default)]
pub struct Disk {
    operations: u64,
}

impl Files for Disk {
    fn create_folder(&mut self, path: &Path) -> io::Result<()> {
        self.operations += 1;
        fs::create_dir_all(path)
    }
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.operations += 1;
        File::create(path)?.write_all(bytes)
    }
    fn sync(&mut self, path: &Path) -> io::Result<()> {
        self.operations += 1;
        File::open(path)?.sync_all()
    }
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.operations += 1;
        fs::rename(from, to)
    }
    fn sync_folder(&mut self, path: &Path) -> io::Result<()> {
        self.operations += 1;
        // Windows cannot open a folder as a file; its renames reach the disk by themselves.
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
    }
    fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        self.operations += 1;
        fs::remove_dir_all(path)
    }
    fn operations(&self) -> u64 {
        self.operations
    }
}

/// The exit status of a process whose file layer died.
pub const DEATH_STATUS: i32 = 86;

/// A disk whose process exits before a numbered operation. In a power cut, a file that was not synced is left empty, as a
/// journalling file system leaves it.
pub struct Dying {
    disk: Disk,
    before: u64,
    power_cut: bool,
    unsynced: BTreeSet<PathBuf>,
}

impl Dying {
    /// Exits before operation `before`, counted from 1.
    pub fn new(before: u64, power_cut: bool) -> Self {
        Self { disk: Disk::default(), before, power_cut, unsynced: BTreeSet::new() }
    }

    fn live(&mut self) -> &mut Disk {
        if self.disk.operations + 1 == self.before {
            if self.power_cut {
                for path in &self.unsynced {
                    // A file that is gone by now has nothing left to lose.
                    let _ = File::create(path);
                }
            }
            std::process::exit(DEATH_STATUS);
        }
        &mut self.disk
    }
}

impl Files for Dying {
    fn create_folder(&mut self, path: &Path) -> io::Result<()> {
        self.live().create_folder(path)
    }
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.live().write(path, bytes)?;
        self.unsynced.insert(path.to_owned());
        Ok(())
    }
    fn sync(&mut self, path: &Path) -> io::Result<()> {
        self.live().sync(path)?;
        self.unsynced.remove(path);
        Ok(())
    }
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.live().rename(from, to)?;
        let moved =
            |path: &PathBuf| path.strip_prefix(from).map_or_else(|_| path.clone(), |rest| to.join(rest));
        self.unsynced = self.unsynced.iter().map(moved).collect();
        Ok(())
    }
    fn sync_folder(&mut self, path: &Path) -> io::Result<()> {
        self.live().sync_folder(path)
    }
    fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        self.live().remove_folder(path)?;
        self.unsynced.retain(|unsynced| !unsynced.starts_with(path));
        Ok(())
    }
    fn operations(&self) -> u64 {
        self.disk.operations
    }
}
