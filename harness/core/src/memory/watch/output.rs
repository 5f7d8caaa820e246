//! Passes on what a command says, every byte and at once, while its steps are read.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a stream may be silent after its command ended: others that hold it open are not waited for.
const SILENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 300_000_000 };

/// Streams that are being passed on.
#[derive(Debug, Default)]
pub struct Copying {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Copying {
    /// Passes `from` on to `to`, and shows each piece to `seen` after it was passed on.
    pub fn begin(&mut self, from: OwnedFd, to: OwnedFd, seen: impl FnMut(&[u8]) + Send + 'static) {
        let ended = self.ended.clone();
        self.threads.push(thread::spawn(move || pass(File::from(from), File::from(to), seen, &ended)));
    }

    /// After the command has ended: passes on what is left of it.
    pub fn finish(self) {
        self.ended.store(true, Ordering::SeqCst);
        for thread in self.threads {
            // Whoever stopped reading has read enough: the command was told so by its closed pipe.
            let _ = thread.join();
        }
    }
}

fn pass(mut from: File, mut to: File, mut seen: impl FnMut(&[u8]), ended: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        // Asked before the wait: what was written before the end is there to be read after it.
        let ended = ended.load(Ordering::SeqCst);
        let mut readable = [PollFd::new(&from, PollFlags::IN)];
        if poll(&mut readable, Some(&SILENT))? == 0 {
            if ended {
                return Ok(());
            }
            continue;
        }
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count])?;
        seen(&buffer[..count]);
    }
}

/// A handle of one's own on one of this process's streams, past any buffer.
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
