//! What wakes the watcher before its next sample is due: a step, a signal, the end of a child.

use std::io;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use procfs::FromRead;
use procfs::process::Status;
use signal_hook::consts::signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use signal_hook::iterator::{Handle, Signals};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bell {
    /// A step was seen: the last one is in [`LastStep`].
    Step,
    /// A signal came that is the command's.
    Signal(i32),
    /// A child ended.
    Child,
}

/// The last step that was seen. Of the command's two streams, the one that told a step first is the one that counts:
/// a step told on both is one step.
#[derive(Clone, Debug, Default)]
pub struct LastStep(Arc<Mutex<Option<(usize, u64)>>>);

impl LastStep {
    /// Notes a step told on `stream`, and whether it counts.
    pub fn tell(&self, stream: usize, step: u64) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = last.is_none_or(|(first, _)| first == stream);
        if counts {
            *last = Some((stream, step));
        }
        counts
    }

    /// The step.
    pub fn get(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|(_, step)| step)
    }
}

/// Signals that are caught while this is kept.
#[derive(Debug)]
pub struct Caught(Handle);

impl Caught {
    /// Catches what is to be passed on, and the end of children. What this process was told to ignore (`nohup`) stays
    /// ignored, by the command too.
    pub fn ring(bell: SyncSender<Bell>) -> io::Result<Self> {
        let ignored = Status::from_file("/proc/self/status").map_or(0, |status| status.sigign);
        let all = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP, SIGCHLD];
        let mut signals = Signals::new(all.into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0))?;
        let handle = signals.handle();
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let what = if signal == SIGCHLD { Bell::Child } else { Bell::Signal(signal) };
                if bell.send(what).is_err() {
                    break;
                }
            }
        });
        Ok(Self(handle))
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        self.0.close();
    }
}
