//! What a system call does to the files below `{out}`: one table from call numbers to operations.
//!
//! Not seen: writes through io_uring, and each store into a mapped file; its mapping counts as one write.

use std::fmt;
use std::path::{Path, PathBuf};

use nix::libc::{self, c_int, c_long};

use super::thread::{Raw, Thread};

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder is made.
    MakeFolder,
    /// A file is made, or emptied, and opened for writing.
    Create,
    /// A file that keeps its content is opened for writing.
    Open,
    /// A file is opened for reading.
    Read,
    /// Bytes are written.
    Write,
    /// A file gets another length.
    Resize,
    /// The content of one file is forced to the disk.
    Sync,
    /// Everything is forced to the disk.
    SyncAll,
    /// A file or folder gets another name.
    Rename,
    /// A file gets one name more, or a symbolic link.
    Link,
    /// A name is removed.
    Remove,
    /// A folder is removed.
    RemoveFolder,
}

/// One operation, with paths relative to `{out}`. Paths elsewhere are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it does.
    pub kind: Kind,
    /// To which file or folder.
    pub path: PathBuf,
    /// The new name of a rename or link.
    pub to: Option<PathBuf>,
    /// The file was opened so that each write waits for the disk.
    pub write_through: bool,
}

impl Operation {
    /// The name that exists afterwards, if this operation makes a file or folder or gives it a name.
    pub fn makes(&self) -> Option<&Path> {
        match self.kind {
            Kind::MakeFolder | Kind::Create => Some(&self.path),
            Kind::Rename | Kind::Link => self.to.as_deref(),
            _ => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.kind {
            Kind::MakeFolder => "mkdir",
            Kind::Create => "create",
            Kind::Open => "open",
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Resize => "truncate",
            Kind::Sync => "fsync",
            Kind::SyncAll => "sync",
            Kind::Rename => "rename",
            Kind::Link => "link",
            Kind::Remove => "unlink",
            Kind::RemoveFolder => "rmdir",
        };
        let path = if self.path.as_os_str().is_empty() { Path::new("{out}") } else { &self.path };
        write!(to, "{verb} {}", path.display())?;
        self.to.as_ref().map_or(Ok(()), |new| write!(to, " -> {}", new.display()))
    }
}

/// The operation that `thread` is about to make, if it is one on files below `root`; a sync is told wherever the file is.
pub fn of(thread: Thread, raw: Raw, root: &Path) -> Option<Operation> {
    let relative = |path: PathBuf| path.strip_prefix(root).map(Path::to_owned).unwrap_or(path);
    let mut operation = decode(thread, raw)?;
    let inside = |path: &PathBuf| path.starts_with(root);
    let arrives = operation.to.as_ref().is_some_and(inside);
    match operation.kind {
        Kind::Sync | Kind::SyncAll => {}
        // A file that is moved away is removed from here.
        Kind::Rename if inside(&operation.path) && !arrives => {
            (operation.kind, operation.to) = (Kind::Remove, None);
        }
        Kind::Rename | Kind::Link if arrives => {}
        _ if inside(&operation.path) => {}
        _ => return None,
    }
    operation.path = relative(operation.path);
    operation.to = operation.to.map(relative);
    Some(operation)
}

fn decode(thread: Thread, Raw { number, arguments: it }: Raw) -> Option<Operation> {
    let here = u64::from(libc::AT_FDCWD.cast_unsigned());
    let on = |kind, path: Option<PathBuf>| {
        path.map(|path| Operation { kind, path, to: None, write_through: false })
    };
    let between = |kind, path: Option<PathBuf>, to: Option<PathBuf>| {
        Some(Operation { to: Some(to?), ..on(kind, path)? })
    };
    let path = |at: u64, address: u64| thread.path(at, address);
    let opened = |path: Option<PathBuf>, flags: u64| open(path?, flags as c_int);
    match c_long::try_from(number).ok()? {
        libc::SYS_openat => opened(path(it[0], it[1]), it[2]),
        libc::SYS_openat2 => opened(path(it[0], it[1]), thread.number(it[2]).ok()?),
        libc::SYS_write
        | libc::SYS_pwrite64
        | libc::SYS_writev
        | libc::SYS_pwritev
        | libc::SYS_pwritev2
        | libc::SYS_sendfile => on(Kind::Write, thread.file(it[0])),
        libc::SYS_copy_file_range | libc::SYS_splice => on(Kind::Write, thread.file(it[2])),
        libc::SYS_mmap if writes_to_file(&it) => on(Kind::Write, thread.file(it[4])),
        libc::SYS_ftruncate | libc::SYS_fallocate => on(Kind::Resize, thread.file(it[0])),
        libc::SYS_truncate => on(Kind::Resize, path(here, it[0])),
        libc::SYS_fsync | libc::SYS_fdatasync => on(Kind::Sync, thread.file(it[0])),
        libc::SYS_sync | libc::SYS_syncfs => on(Kind::SyncAll, Some(PathBuf::from("/"))),
        libc::SYS_renameat | libc::SYS_renameat2 => {
            between(Kind::Rename, path(it[0], it[1]), path(it[2], it[3]))
        }
        libc::SYS_linkat => between(Kind::Link, path(it[0], it[1]), path(it[2], it[3])),
        libc::SYS_symlinkat => between(Kind::Link, path(here, it[0]), path(it[1], it[2])),
        libc::SYS_unlinkat if it[2] as c_int & libc::AT_REMOVEDIR != 0 => {
            on(Kind::RemoveFolder, path(it[0], it[1]))
        }
        libc::SYS_unlinkat => on(Kind::Remove, path(it[0], it[1])),
        libc::SYS_mkdirat => on(Kind::MakeFolder, path(it[0], it[1])),
        // Calls that newer architectures do not have.
        #[cfg(target_arch = "x86_64")]
        old => match old {
            libc::SYS_open => opened(path(here, it[0]), it[1]),
            libc::SYS_creat => {
                opened(path(here, it[0]), (libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC) as u64)
            }
            libc::SYS_rename => between(Kind::Rename, path(here, it[0]), path(here, it[1])),
            libc::SYS_link => between(Kind::Link, path(here, it[0]), path(here, it[1])),
            libc::SYS_symlink => between(Kind::Link, path(here, it[0]), path(here, it[1])),
            libc::SYS_unlink => on(Kind::Remove, path(here, it[0])),
            libc::SYS_rmdir => on(Kind::RemoveFolder, path(here, it[0])),
            libc::SYS_mkdir => on(Kind::MakeFolder, path(here, it[0])),
            _ => None,
        },
        #[cfg(not(target_arch = "x86_64"))]
        _ => None,
    }
}

fn writes_to_file(it: &[u64; 6]) -> bool {
    it[2] as c_int & libc::PROT_WRITE != 0 && it[3] as c_int & libc::MAP_TYPE == libc::MAP_SHARED
}

/// Asked before the call: a file that is there and not emptied keeps its content.
fn open(path: PathBuf, flags: c_int) -> Option<Operation> {
    let has = |flag| flags & flag != 0;
    let kind = match flags & libc::O_ACCMODE {
        libc::O_RDONLY if has(libc::O_DIRECTORY) || has(libc::O_PATH) => return None,
        libc::O_RDONLY => Kind::Read,
        _ if has(libc::O_TRUNC) || has(libc::O_CREAT) && !path.exists() => Kind::Create,
        _ => Kind::Open,
    };
    // O_SYNC contains O_DSYNC.
    Some(Operation { kind, path, to: None, write_through: has(libc::O_DSYNC) })
}
