//! Whether somebody wants this process to end: what runs is then ended, and what was judged is still reported.

use std::sync::atomic::{AtomicI32, Ordering};

static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// The first signal that asked for the end, if one came.
pub fn signal() -> Option<i32> {
    Some(SIGNAL.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
}

/// From now on Ctrl-C, SIGTERM and SIGHUP end what runs, and not this process. A second one ends it at once. Fails where
/// signals cannot be had.
#[cfg(unix)]
pub fn listen() -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if SIGNAL.swap(signal, Ordering::Relaxed) != 0 {
                as_without_us(signal);
            }
        }
    });
    Ok(())
}

/// Where there are no such signals, none is listened for.
#[cfg(not(unix))]
pub fn listen() -> std::io::Result<()> {
    Ok(())
}

/// Ends this process as the signal does where nobody listens, so that a shell sees what ended it.
pub fn as_without_us(signal: i32) {
    #[cfg(unix)]
    // Fails only for a signal that there is not.
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    #[cfg(not(unix))]
    let _ = signal;
}
