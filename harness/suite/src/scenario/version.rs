//! The version of the catalogue: when a scenario came, and how new a scenario a user wants.

use std::fmt;
use std::str::FromStr;

use semver::{Comparator, Op};
use serde::{Deserialize, Serialize};

/// A release, as `0.1.0`; nothing before a release and no build.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(semver::Version);

/// The newest release that is wanted, as `0.1.2`, or as `0.1` with all that only mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin(Comparator);

/// Something that is no version.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no version; expected one as {expected}", expected = env!("CARGO_PKG_VERSION"))]
pub struct VersionError(String);

impl Version {
    /// That of the scenarios that come with this crate.
    pub fn own() -> Result<Self, VersionError> {
        env!("CARGO_PKG_VERSION").parse()
    }
}

impl Default for Version {
    /// Older than every release.
    fn default() -> Self {
        Self(semver::Version::new(0, 0, 0))
    }
}

impl Pin {
    /// True for a release that is not newer.
    pub fn admits(&self, version: &Version) -> bool {
        self.0.matches(&version.0)
    }

    /// True where that release does not have all that is wanted.
    pub fn is_beyond(&self, version: &Version) -> bool {
        Comparator { op: Op::Less, ..self.0.clone() }.matches(&version.0)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let version = text.parse().ok();
        let released = version.filter(|it: &semver::Version| it.pre.is_empty() && it.build.is_empty());
        released.map(Self).ok_or_else(|| VersionError(text.to_owned()))
    }
}

impl FromStr for Pin {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let newest = Comparator::parse(&format!("<={text}")).ok();
        // A comparator also has blanks and wildcards, and is then shown otherwise than it was written.
        let plain =
            |it: &Comparator| it.minor.is_some() && it.pre.is_empty() && Self(it.clone()).to_string() == text;
        newest.filter(plain).map(Self).ok_or_else(|| VersionError(text.to_owned()))
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_string().trim_start_matches("<="))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("0.1", "0.1.9", true)]
    #[case("0.1", "0.2.0", false)]
    #[case("0.1.2", "0.1.2", true)]
    #[case("0.1.2", "0.1.3", false)]
    #[case("0.10", "0.9.0", true)]
    #[case("1.0", "0.9.0", true)]
    fn a_pin_admits_what_is_not_newer(#[case] pin: &str, #[case] version: &str, #[case] admits: bool) {
        let pinned: Pin = pin.parse().unwrap();
        assert_eq!(pinned.admits(&version.parse().unwrap()), admits);
        assert_eq!(pinned.to_string(), pin);
        assert!(!pinned.is_beyond(&version.parse().unwrap()) || admits);
    }

    #[rstest]
    #[case("1")]
    #[case("0.1.x")]
    #[case("0.1.*")]
    #[case(" 0.1")]
    #[case("<0.1")]
    #[case("0.1.0-rc.1")]
    #[case("0.1.0+build")]
    #[case("0.1.0.0")]
    #[case("")]
    fn what_is_no_version_is_refused(#[case] text: &str) {
        let error = text.parse::<Pin>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("{text:?} is no version")), "{error}");
    }
}
