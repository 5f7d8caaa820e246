//! The devices a run can ask for, checked before a backend starts: the backends panic where there is no driver.

#[cfg(feature = "wgpu")]
pub mod adapters;
#[cfg(feature = "cuda")]
mod cuda;

use std::fmt;
use std::str::FromStr;

/// Where a run computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The CPU, through burn-ndarray.
    #[default]
    Ndarray,
    /// The CPU, through burn-flex.
    Flex,
    /// The NVIDIA GPU of this index, through burn-cuda.
    Cuda(usize),
    /// The adapter of this index, through burn-wgpu.
    Wgpu(usize),
}

/// A device that is not available.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum DeviceError {
    #[error("unknown device {0:?}: expected ndarray, flex, cuda:N or wgpu:N")]
    Unknown(String),
    #[error("{0} is not available: this build is without it; build with --features {feature}", feature = .0.kind())]
    NotBuilt(Device),
    #[error("{0} is not available: no CUDA driver on this machine (libcuda was not found)")]
    NoDriver(Device),
    #[error("{device} is not available: the CUDA driver answers {reason}")]
    Driver { device: Device, reason: String },
    #[error("{device} is not available: this machine has {count} GPU(s), numbered from 0")]
    NoSuchGpu { device: Device, count: usize },
    #[error("{device} is not available: wgpu finds {}", listed(.adapters))]
    NoSuchAdapter { device: Device, adapters: Vec<String> },
}

/// Adapters with the names that ask for them.
fn listed(adapters: &[String]) -> String {
    let named = adapters.iter().enumerate().map(|(index, adapter)| format!("wgpu:{index} ({adapter})"));
    let named: Vec<String> = named.collect();
    if named.is_empty() { "no adapter on this machine".to_owned() } else { named.join(", ") }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::Ndarray | Self::Flex => Ok(()),
            Self::Cuda(index) | Self::Wgpu(index) => write!(f, ":{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        // One device has one name: not `wgpu:00`, nor `wgpu:+0`.
        let numbered = |kind: &str| {
            let number = text.strip_prefix(kind)?;
            number.parse().ok().filter(|index: &usize| index.to_string() == number)
        };
        let found = match text {
            "ndarray" => Some(Self::Ndarray),
            "flex" => Some(Self::Flex),
            _ => numbered("cuda:").map(Self::Cuda).or_else(|| numbered("wgpu:").map(Self::Wgpu)),
        };
        found.ok_or_else(|| DeviceError::Unknown(text.to_owned()))
    }
}

impl Device {
    /// Its name without a number. The feature of the build that brings it has the same one.
    fn kind(self) -> &'static str {
        match self {
            Self::Ndarray => "ndarray",
            Self::Flex => "flex",
            Self::Cuda(_) => "cuda",
            Self::Wgpu(_) => "wgpu",
        }
    }

    /// Whether the tensors of this device are on the heap of the process.
    pub fn is_on_heap(self) -> bool {
        matches!(self, Self::Ndarray | Self::Flex)
    }

    /// Whether a run can start on it. Fails with the reason; never panics.
    pub fn probe(self) -> Result<(), DeviceError> {
        match self {
            Self::Ndarray | Self::Flex => Ok(()),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => cuda::probe(self, index),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(index) => adapters::probe(self, index),
            #[allow(unreachable_patterns, reason = "no pattern is left where the build has every device")]
            _ => Err(DeviceError::NotBuilt(self)),
        }
    }

    /// The free bytes of a device with its own memory; none where it does not say. The device must have passed
    /// [`Self::probe`].
    pub fn free_bytes(self) -> Result<Option<u64>, DeviceError> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => cuda::free_bytes(self, index).map(Some),
            // wgpu has no such question.
            _ => Ok(None),
        }
    }
}

/// The result of `call`, or none where it panics. The bindings panic where the driver's library is missing.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn quietly<T>(call: impl FnOnce() -> T + std::panic::UnwindSafe) -> Option<T> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let answer = std::panic::catch_unwind(call);
    std::panic::set_hook(hook);
    answer.ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("ndarray", Device::Ndarray)]
    #[case("flex", Device::Flex)]
    #[case("cuda:0", Device::Cuda(0))]
    #[case("wgpu:12", Device::Wgpu(12))]
    fn a_device_is_read_by_the_name_that_it_is_shown_by(#[case] name: &str, #[case] device: Device) {
        assert_eq!(name.parse::<Device>().unwrap(), device);
        assert_eq!(device.to_string(), name);
    }

    #[rstest]
    fn a_name_that_is_none_is_refused(
        #[values(
            "",
            "cuda",
            "wgpu",
            "wgpu:",
            "wgpu:-1",
            "wgpu:00",
            "wgpu:+0",
            "wgpu:x",
            "ndarray:0",
            "flex:0",
            "cuda:0:0",
            "tpu"
        )]
        name: &str,
    ) {
        assert!(matches!(name.parse::<Device>(), Err(DeviceError::Unknown(found)) if found == name));
    }

    #[test]
    fn a_missing_adapter_is_told_with_those_that_there_are() {
        let said = |adapters: &[&str]| {
            let adapters = adapters.iter().map(ToString::to_string).collect();
            DeviceError::NoSuchAdapter { device: Device::Wgpu(3), adapters }.to_string()
        };
        assert_eq!(said(&[]), "wgpu:3 is not available: wgpu finds no adapter on this machine");
        assert_eq!(
            said(&["llvmpipe, CPU", "A770, discrete GPU"]),
            "wgpu:3 is not available: wgpu finds wgpu:0 (llvmpipe, CPU), wgpu:1 (A770, discrete GPU)"
        );
    }
}
