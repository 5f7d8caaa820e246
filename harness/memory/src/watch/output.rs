//! Copies a command's output unchanged and without delay, while steps are read from it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// After the command has ended, a stream that is silent for this long is closed. Other processes may hold it open for
/// ever.
const SILENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 300_000_000 };

/// Streams that are being copied.
#[derive(Debug, Default)]
pub struct Copying {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Copying {
    /// Copies `from` to `to`, and shows each piece to `seen` after it was written.
    pub fn begin(&mut self, from: OwnedFd, to: OwnedFd, seen: impl FnMut(&[u8]) + Send + 'static) {
        let ended = self.ended.clone();
        self.threads.push(thread::spawn(move || pass(File::from(from), File::from(to), seen, &ended)));
    }

    /// Copies the rest of the output after the command has ended.
    pub fn finish(self) {
        self.ended.store(true, Ordering::SeqCst);
        for thread in self.threads {
            // A reader that closed its end is not an error here: the command gets SIGPIPE for it.
            let _ = thread.join();
        }
    }
}

fn pass(mut from: File, mut to: File, mut seen: impl FnMut(&[u8]), ended: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        // Read the flag before waiting: everything that was written before the end can then still be read.
        let ended = ended.load(Ordering::SeqCst);
        let mut readable = [PollFd::new(&from, PollFlags::IN)];
        match poll(&mut readable, Some(&SILENT)) {
            Ok(0) if ended => return Ok(()),
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        write_all(&mut to, &buffer[..count])?;
        seen(&buffer[..count]);
    }
}

/// Writes all bytes, even if the reader has made the stream non-blocking.
fn write_all(to: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&*to, PollFlags::OUT)], Some(&SILENT))?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// An own, unbuffered handle on one of this process's streams.
pub fn stream(stream: impl AsFd) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn every_byte_is_passed_on_and_one_who_holds_the_stream_is_not_waited_for() {
        let (from, mut write) = io::pipe().unwrap();
        let (mut read, to) = io::pipe().unwrap();
        let (sender, seen) = channel();
        let mut copying = Copying::default();
        copying.begin(from.into(), to.into(), move |bytes| sender.send(bytes.to_vec()).unwrap());
        let all: Vec<u8> = (0..=255).cycle().take(5000).collect();
        write.write_all(&all).unwrap();
        copying.finish();
        let mut passed = Vec::new();
        read.read_to_end(&mut passed).unwrap();
        assert_eq!((passed, seen.into_iter().flatten().collect()), (all.clone(), all));
    }
}
