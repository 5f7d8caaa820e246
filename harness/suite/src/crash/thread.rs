//! One stopped thread of a traced process: its registers, its memory, its open files.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::ptrace;
use nix::unistd::Pid;

/// Longer paths are refused by the kernel.
const PATH_MOST: usize = 4096;

/// A system call as the registers hold it.
#[derive(Clone, Copy, Debug)]
pub struct Raw {
    /// The number, which depends on the architecture.
    pub number: i64,
    /// The arguments, as passed.
    pub arguments: [u64; 6],
}

/// A thread that is stopped by ptrace.
#[derive(Clone, Copy, Debug)]
pub struct Thread(pub Pid);

impl Thread {
    /// The system call that the thread is about to make.
    #[cfg(target_arch = "x86_64")]
    pub fn entered(self) -> nix::Result<Raw> {
        let it = ptrace::getregs(self.0)?;
        let number = it.orig_rax.cast_signed();
        Ok(Raw { number, arguments: [it.rdi, it.rsi, it.rdx, it.r10, it.r8, it.r9] })
    }

    /// What the system call returned: negative is an error.
    #[cfg(target_arch = "x86_64")]
    pub fn returned(self) -> nix::Result<i64> {
        Ok(ptrace::getregs(self.0)?.rax.cast_signed())
    }

    /// The system call that the thread is about to make.
    #[cfg(target_arch = "aarch64")]
    pub fn entered(self) -> nix::Result<Raw> {
        let it = ptrace::getregs(self.0)?.regs;
        Ok(Raw { number: it[8].cast_signed(), arguments: [it[0], it[1], it[2], it[3], it[4], it[5]] })
    }

    /// What the system call returned: negative is an error.
    #[cfg(target_arch = "aarch64")]
    pub fn returned(self) -> nix::Result<i64> {
        Ok(ptrace::getregs(self.0)?.regs[0].cast_signed())
    }

    /// The path at `address`, relative to the folder `at`. Links in its folders are resolved, so that a file has one name
    /// only; the last part is kept, because the operation may be on a link itself. `None` where its folder does not exist.
    pub fn path(self, at: u64, address: u64) -> Option<PathBuf> {
        let written = self.string(address).ok()?;
        let path = match written.is_absolute() {
            true => written,
            false => self.folder(at)?.join(written),
        };
        let (folder, name) = (path.parent()?, path.file_name());
        match name {
            Some(name) => Some(fs::canonicalize(folder).ok()?.join(name)),
            None => fs::canonicalize(path).ok(),
        }
    }

    /// The file behind a descriptor; `None` for a pipe, a socket, or a file that has no name any more.
    pub fn file(self, descriptor: u64) -> Option<PathBuf> {
        let path = fs::read_link(self.proc(&format!("fd/{}", descriptor as i32))).ok()?;
        (path.is_absolute() && path.exists()).then_some(path)
    }

    /// A number in the thread's memory.
    pub fn number(self, address: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        File::open(self.proc("mem"))?.read_exact_at(&mut bytes, address)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn folder(self, at: u64) -> Option<PathBuf> {
        match at as i32 {
            libc::AT_FDCWD => fs::read_link(self.proc("cwd")).ok(),
            _ => self.file(at),
        }
    }

    /// The string that ends with a zero byte. Read in parts that do not cross a page: the next page may not be mapped.
    fn string(self, address: u64) -> io::Result<PathBuf> {
        let memory = File::open(self.proc("mem"))?;
        let mut text = Vec::new();
        while text.len() < PATH_MOST {
            let from = address + text.len() as u64;
            let mut part = [0; 256];
            let length = part.len().min(256 - (from % 256) as usize);
            let read = memory.read_at(&mut part[..length], from)?;
            let part = &part[..read];
            if let Some(end) = part.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&part[..end]);
                return Ok(OsString::from_vec(text).into());
            }
            if read == 0 {
                break;
            }
            text.extend_from_slice(part);
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    fn proc(self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.0.to_string()).join(name)
    }
}
