//! The devices a run can ask for, checked before a backend starts: burn-cuda panics where there is no driver.

use std::fmt;
use std::str::FromStr;

/// Where a run computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The CPU, through burn-ndarray.
    #[default]
    Ndarray,
    /// The NVIDIA GPU of this index, through burn-cuda.
    Cuda(usize),
}

/// A device that is not available.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum DeviceError {
    #[error("unknown device {0:?}: expected ndarray or cuda:N")]
    Unknown(String),
    #[error("{0} is not available: this build has no GPU support; build with --features cuda")]
    NotBuilt(Device),
    #[error("{0} is not available: no CUDA driver on this machine (libcuda was not found)")]
    NoDriver(Device),
    #[error("{device} is not available: the CUDA driver answers {reason}")]
    Driver { device: Device, reason: String },
    #[error("{device} is not available: this machine has {count} GPU(s), numbered from 0")]
    NoSuchGpu { device: Device, count: usize },
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ndarray => f.write_str("ndarray"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        if text == "ndarray" {
            return Ok(Self::Ndarray);
        }
        let index = text.strip_prefix("cuda:").and_then(|index| index.parse().ok());
        index.map(Self::Cuda).ok_or_else(|| DeviceError::Unknown(text.to_owned()))
    }
}

impl Device {
    /// Whether a run can start on it. Fails with the reason; never panics.
    pub fn probe(self) -> Result<(), DeviceError> {
        match self {
            Self::Ndarray => Ok(()),
            Self::Cuda(_) => self.probe_cuda(),
        }
    }

    /// The free bytes of a device with its own memory; none for the CPU. The device must have passed [`Self::probe`].
    pub fn free_bytes(self) -> Result<Option<u64>, DeviceError> {
        match self {
            Self::Ndarray => Ok(None),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => {
                let free = cudarc::driver::CudaContext::new(index).and_then(|card| card.mem_get_info());
                let driver = |error| DeviceError::Driver { device: self, reason: format!("{error:?}") };
                free.map(|(free, _)| Some(free as u64)).map_err(driver)
            }
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(DeviceError::NotBuilt(self)),
        }
    }

    #[cfg(not(feature = "cuda"))]
    fn probe_cuda(self) -> Result<(), DeviceError> {
        Err(DeviceError::NotBuilt(self))
    }

    #[cfg(feature = "cuda")]
    fn probe_cuda(self) -> Result<(), DeviceError> {
        use cudarc::driver::result;

        let Self::Cuda(index) = self else { return Ok(()) };
        let driver =
            |error: result::DriverError| DeviceError::Driver { device: self, reason: format!("{error:?}") };
        quietly(result::init).ok_or(DeviceError::NoDriver(self))?.map_err(driver)?;
        let count = usize::try_from(result::device::get_count().map_err(driver)?).unwrap_or(0);
        if index >= count {
            return Err(DeviceError::NoSuchGpu { device: self, count });
        }
        Ok(())
    }
}

/// The result of `call`, or none where it panics. The bindings panic where the driver's library is missing.
#[cfg(feature = "cuda")]
fn quietly<T>(call: impl FnOnce() -> T + std::panic::UnwindSafe) -> Option<T> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let answer = std::panic::catch_unwind(call);
    std::panic::set_hook(hook);
    answer.ok()
}
