//! What every GPU runtime of cubecl shares: the lanes of its memory pool, and its failures.
//!
//! In cubecl 0.10 an allocation that fails panics on the device's own thread. The caller gets no error; the next sync
//! gets one, and the sync after that is in order again, though every tensor since the failure is wrong. So a device that
//! failed once stays failed for the rest of the process.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::thread::{self, Thread};

use cubecl::Runtime;
use cubecl::server::{IoError, LaunchError, ServerError};
use parking_lot::Mutex;
use traintrue_protocol::lanes::Lanes;

use super::DeviceFault;

/// The first failure of a device of this process.
static FAILED: Mutex<Option<DeviceFault>> = Mutex::new(None);
/// What the first thread of a device that panicked said.
static PANICKED: Mutex<Option<String>> = Mutex::new(None);

thread_local! {
    /// Whether this thread is within [`guarded`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Implements [`Engine`](super::Engine) for both checkpointing strategies of a backend.
macro_rules! on_a_gpu {
    ($runtime:ty, $kept:ty, $recomputing:ty, $process_bytes:expr) => {
        $crate::engine::gpu::on_a_gpu!(@one $runtime, $kept, false, $process_bytes);
        $crate::engine::gpu::on_a_gpu!(@one $runtime, $recomputing, true, $process_bytes);
    };
    (@one $runtime:ty, $engine:ty, $checkpointing:literal, $process_bytes:expr) => {
        impl $crate::engine::Engine for $engine {
            const CHECKPOINTING: bool = $checkpointing;
            const ESTIMATED: bool = false;

            fn lanes(device: &Self::Device) -> traintrue_protocol::lanes::Lanes {
                let mut lanes = $crate::engine::gpu::lanes::<$runtime>(device);
                lanes.insert("device_process_bytes".to_owned(), $process_bytes);
                lanes
            }
            fn held_bytes(device: &Self::Device) -> Option<u64> {
                $crate::engine::gpu::held_bytes::<$runtime>(device)
            }
            fn largest_bytes(device: &Self::Device) -> Option<u64> {
                Some($crate::engine::gpu::largest_bytes::<$runtime>(device))
            }
            fn settle(device: &Self::Device) -> Result<(), $crate::engine::DeviceFault> {
                $crate::engine::gpu::settle::<$runtime>(device)
            }
            fn guarded<T>(device: &Self::Device, work: impl FnOnce() -> T) -> Result<T, $crate::engine::DeviceFault> {
                $crate::engine::gpu::guarded::<$runtime, T>(device, work)
            }
            fn release_unused(device: &Self::Device) {
                $crate::engine::gpu::release_unused::<$runtime>(device);
            }
        }
    };
}
pub(super) use on_a_gpu;

pub(super) fn largest_bytes<R: Runtime>(device: &R::Device) -> u64 {
    R::client(device).properties().memory.max_page_size
}

pub(super) fn held_bytes<R: Runtime>(device: &R::Device) -> Option<u64> {
    R::client(device).memory_usage().ok().map(|usage| usage.bytes_in_use)
}

pub(super) fn settle<R: Runtime>(device: &R::Device) -> Result<(), DeviceFault> {
    let synced = cubecl::future::block_on(R::client(device).sync()).map_err(fault);
    let mut failed = FAILED.lock();
    // A read may have taken the one error that a sync would get: then only the panic is left to tell of it.
    let found = synced.err().or_else(|| PANICKED.lock().clone().map(DeviceFault::Other));
    if failed.is_none() {
        *failed = found;
    }
    failed.clone().map_or(Ok(()), Err)
}

/// The pool frees its pages only at the sync after the cleanup.
pub(super) fn release_unused<R: Runtime>(device: &R::Device) {
    R::client(device).memory_cleanup();
    // A failure is kept, and the next caller who can fail gets it.
    let _ = settle::<R>(device);
}

/// A lane that cannot be read has no value.
pub(super) fn lanes<R: Runtime>(device: &R::Device) -> Lanes {
    let usage = settle::<R>(device).ok().and_then(|()| R::client(device).memory_usage().ok());
    let lane = |name: &str, figure: Option<u64>| (name.to_owned(), figure);
    Lanes::from([
        lane("device_in_use_bytes", usage.as_ref().map(|it| it.bytes_in_use)),
        lane("device_reserved_bytes", usage.as_ref().map(|it| it.bytes_reserved)),
        lane("device_allocations", usage.as_ref().map(|it| it.number_allocs)),
    ])
}

/// A device that has failed gives numbers that mean nothing, or makes burn panic: here it gives its failure.
pub(super) fn guarded<R: Runtime, T>(device: &R::Device, work: impl FnOnce() -> T) -> Result<T, DeviceFault> {
    keep_panics_of_devices();
    GUARDED.set(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    settle::<R>(device)?;
    done.or_else(|panicked| panic::resume_unwind(panicked))
}

/// Keeps what a device's thread says when it panics, and does not print it, nor what follows from it in guarded work: the
/// failure is told once, as an error.
fn keep_panics_of_devices() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if is_a_devices(&thread::current()) {
                PANICKED.lock().get_or_insert_with(|| panicked.to_string());
            } else if !GUARDED.get() || PANICKED.lock().is_none() {
                others(panicked);
            }
        }));
    });
}

/// cubecl names its threads after the stage and the device, such as `DSD-3-0`.
fn is_a_devices(thread: &Thread) -> bool {
    thread.name().is_some_and(|name| ["DSU-", "DSD-"].iter().any(|stage| name.starts_with(stage)))
}

/// Reads the error's variants and never its text: "memory" is also in the text of other errors.
fn fault(error: ServerError) -> DeviceFault {
    match error {
        ServerError::Io(IoError::BufferTooBig { size, .. })
        | ServerError::Launch(LaunchError::IoError(IoError::BufferTooBig { size, .. })) => {
            DeviceFault::OutOfMemory { requested_bytes: Some(size) }
        }
        // The second is what a sync finds after a failed allocation: the buffer that later work looks for is not there.
        ServerError::Launch(LaunchError::OutOfMemory { .. }) | ServerError::Io(IoError::NotFound { .. }) => {
            DeviceFault::OutOfMemory { requested_bytes: None }
        }
        ServerError::ServerUnhealthy { errors, backtrace } => {
            let mut faults = errors.iter().cloned().map(fault);
            let shortage = faults.rfind(|fault| matches!(fault, DeviceFault::OutOfMemory { .. }));
            shortage.unwrap_or_else(|| {
                DeviceFault::Other(ServerError::ServerUnhealthy { errors, backtrace }.to_string())
            })
        }
        other => DeviceFault::Other(other.to_string()),
    }
}
