//! Faults of the checkpoint store: a crash at the wrong moment leaves neither the old checkpoint nor the new one.

use std::path::{Path, PathBuf};

use super::Fault;
use crate::checkpoint::{CheckpointError, Content, Files, MANIFEST, files_of, folder_name, step, write_manifest};
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

/// One folder for all checkpoints, each written over the last.
fn in_place(files: &mut dyn Files, root: &Path, content: &Content) -> Result<PathBuf, CheckpointError> {
    let path = root.join("latest");
    step("make a folder", &path, files.create_folder(&path))?;
    write_files(files, &path, content, true)?;
    manifest(files, &path, content, true)?;
    Ok(path)
}

/// A manifest that claims what is not yet there.
fn manifest_first(files: &mut dyn Files, root: &Path, content: &Content) -> Result<PathBuf, CheckpointError> {
    let path = root.join(folder_name(content.record.cursor));
    step("make a folder", &path, files.create_folder(&path))?;
    manifest(files, &path, content, true)?;
    write_files(files, &path, content, true)?;
    Ok(path)
}

/// Everything in order, and nothing brought to the disk before the name is.
fn without_sync(files: &mut dyn Files, root: &Path, content: &Content) -> Result<PathBuf, CheckpointError> {
    let name = folder_name(content.record.cursor);
    let (temporary, path) = (root.join(format!(".writing-{name}")), root.join(name));
    step("make a folder", &temporary, files.create_folder(&temporary))?;
    write_files(files, &temporary, content, false)?;
    manifest(files, &temporary, content, false)?;
    step("rename", &temporary, files.rename(&temporary, &path))?;
    Ok(path)
}

fn write_files(
    files: &mut dyn Files,
    folder: &Path,
    content: &Content,
    synced: bool,
) -> Result<(), CheckpointError> {
    for (name, bytes) in files_of(folder, content)? {
        let file = folder.join(name);
        step("write", &file, files.write(&file, &bytes))?;
        if synced {
            step("sync", &file, files.sync(&file))?;
        }
    }
    Ok(())
}

fn manifest(
    files: &mut dyn Files,
    folder: &Path,
    content: &Content,
    synced: bool,
) -> Result<(), CheckpointError> {
    write_manifest(files, folder, content)?;
    let file = folder.join(MANIFEST);
    if synced { step("sync", &file, files.sync(&file)) } else { Ok(()) }
}
