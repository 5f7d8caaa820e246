//! Faults of saving: a crash at the wrong moment leaves neither the old checkpoint nor the new one.

use std::io;
use std::path::{Path, PathBuf};

use super::Fault;
use crate::checkpoint::{
    CheckpointError, Content, Files, files_of, folder_name, save_atomically, step, write_files,
    write_manifest,
};
use crate::engine::Engine;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("written-in-place", |parts| parts.store.save = in_place),
        ("manifest-first", |parts| parts.store.save = manifest_first),
        ("no-fsync-before-the-rename", |parts| parts.store.save = without_sync),
        ("checksum-not-verified", |parts| parts.store.verify = |_, _, _| Ok(())),
    ]
}

/// One folder for all checkpoints. Each overwrites the last.
fn in_place(files: &mut dyn Files, root: &Path, content: &Content) -> Result<PathBuf, CheckpointError> {
    let path = root.join("latest");
    step("make a folder", &path, files.create_folder(&path))?;
    let encoded = files_of(&path, content)?;
    write_files(files, &path, &encoded)?;
    write_manifest(files, &path, content, &encoded)?;
    Ok(path)
}

/// A manifest that is written before its files.
fn manifest_first(files: &mut dyn Files, root: &Path, content: &Content) -> Result<PathBuf, CheckpointError> {
    let path = root.join(folder_name(content.record.cursor));
    step("make a folder", &path, files.create_folder(&path))?;
    let encoded = files_of(&path, content)?;
    write_manifest(files, &path, content, &encoded)?;
    write_files(files, &path, &encoded)?;
    Ok(path)
}

/// The right save, without syncing.
fn without_sync(files: &mut dyn Files, root: &Path, content: &Content) -> Result<PathBuf, CheckpointError> {
    save_atomically(&mut NeverSynced(files), root, content)
}

struct NeverSynced<'a>(&'a mut dyn Files);

impl Files for NeverSynced<'_> {
    fn create_folder(&mut self, path: &Path) -> io::Result<()> {
        self.0.create_folder(path)
    }
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.0.write(path, bytes)
    }
    fn sync(&mut self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn sync_folder(&mut self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        self.0.remove_folder(path)
    }
    fn operations(&self) -> u64 {
        self.0.operations()
    }
}
