//! A device that a plan asks for, and how much of it may be used.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::{Checked, expect};

/// A device, and how much of it may be used. The first of a plan's list that is there, and that the model fits into, is
/// computed on; each that is given up leaves an `adapted` event with the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceChoice {
    /// Its name, such as `cuda:0`; null is the trainer's own.
    #[serde(default)]
    pub device: Option<String>,
    /// What training may hold there; null is all that the device has.
    #[serde(default)]
    pub budget_bytes: Option<u64>,
}

impl DeviceChoice {
    pub(super) fn check(&self, at: usize) -> Checked {
        let named = self.device.as_deref() != Some("");
        expect(&format!("devices[{at}].device"), "\"\"", named, "the name of a device, or null")?;
        let budget = self.budget_bytes.unwrap_or(1);
        expect(&format!("devices[{at}].budget_bytes"), budget, budget > 0, "at least 1")
    }

    /// In words, where the trainer's own device is `own`.
    pub fn shown<'a>(&'a self, own: &'a dyn fmt::Display) -> impl fmt::Display + 'a {
        Shown { choice: self, own }
    }
}

struct Shown<'a> {
    choice: &'a DeviceChoice,
    own: &'a dyn fmt::Display,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.choice.device {
            Some(name) => write!(f, "{}", name.escape_debug())?,
            None => write!(f, "{}", self.own)?,
        }
        match self.choice.budget_bytes {
            Some(bytes) => write!(f, " within {bytes} B"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_told_by_its_name_and_its_budget() {
        let shown = |device: Option<&str>, budget_bytes| {
            DeviceChoice { device: device.map(str::to_owned), budget_bytes }.shown(&"ndarray").to_string()
        };
        assert_eq!(shown(Some("cuda:0"), None), "cuda:0");
        assert_eq!(shown(None, Some(4096)), "ndarray within 4096 B");
        assert_eq!(shown(Some("qu\nux"), None), "qu\\nux");
    }
}
