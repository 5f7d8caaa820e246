//! What a process holds on NVIDIA GPUs, as the driver counts it.
//!
//! The driver's library is looked for when it is asked for: without one there is no lane, and nothing else changes.

use std::collections::BTreeMap;

use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;

/// The driver's view of the GPUs.
#[derive(Debug)]
pub struct Devices(Nvml);

impl Devices {
    /// Asks for the driver; `None` where there is none. Takes some milliseconds: open it once.
    pub fn open() -> Option<Self> {
        Nvml::init().ok().map(Self)
    }

    /// Bytes on all GPUs together, by pid, of those processes that compute there; the `device_process_bytes` of each.
    ///
    /// A pid is absent where it has no context on a GPU, and where the driver does not say: inside a container it may
    /// know processes by the pids of the host.
    pub fn process_bytes(&self) -> BTreeMap<u32, u64> {
        let mut bytes = BTreeMap::new();
        let devices = 0..self.0.device_count().unwrap_or_default();
        let processes =
            devices.filter_map(|index| self.0.device_by_index(index).ok()?.running_compute_processes().ok());
        for process in processes.flatten() {
            if let UsedGpuMemory::Used(used) = process.used_gpu_memory {
                *bytes.entry(process.pid).or_default() += used;
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_computes_on_no_gpu_has_nothing_there() {
        // Without a driver there is nothing to ask; with one, this process has no context.
        let bytes = Devices::open().map(|devices| devices.process_bytes()).unwrap_or_default();
        assert_eq!(bytes.get(&std::process::id()), None);
    }
}
