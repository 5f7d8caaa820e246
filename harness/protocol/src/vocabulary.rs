//! The closed vocabularies of plans, traces and scenarios.
//!
//! Each is an enum, so that a typo is refused where it is read and never weakens a verdict in silence. A word's meaning
//! stands beside it: schemas, `explain` and error messages all read this one place.

mod adaptation;
mod capability;
mod component;
mod lane;
mod moment;

pub use adaptation::Adaptation;
pub use capability::Capability;
pub use component::Component;
pub use lane::Lane;
pub use moment::Moment;

use std::fmt;

use crate::nearest::hint;

/// A word that a vocabulary does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    /// What the vocabulary is of: `capability`, `component`.
    pub of: &'static str,
    /// What was found.
    pub found: String,
    /// All words that there are.
    pub words: Vec<&'static str>,
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, found, words } = self;
        write!(f, "unknown {of} {found:?}{}", hint(found, words.iter().copied()))
    }
}

impl std::error::Error for UnknownWord {}

/// Makes an enum of words: read, written, listed and published in schemas by the same strings.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $of:literal { $($variant:ident = $word:literal: $meaning:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = $meaning] $variant,)+
        }

        impl $name {
            /// Every word, in the order in which they are shown.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word, as files and reports have it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What the word means, in a sentence or two.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::vocabulary::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|it| it.name() == word).ok_or_else(|| {
                    $crate::vocabulary::UnknownWord {
                        of: $of,
                        found: word.to_owned(),
                        words: Self::ALL.iter().map(|it| it.name()).collect(),
                    }
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let word = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(from)?;
                word.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let words = Self::ALL.iter().map(|it| {
                    serde_json::json!({ "const": it.name(), "type": "string", "description": it.meaning() })
                });
                schemars::json_schema!({ "oneOf": words.collect::<Vec<_>>() })
            }
        }
    };
}
use words;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_as_it_is_written() {
        for &word in Component::ALL {
            let json = serde_json::to_string(&word).unwrap();
            assert_eq!(serde_json::from_str::<Component>(&json).unwrap(), word);
        }
    }

    #[test]
    fn a_typo_is_refused_with_the_nearest_word() {
        let error = serde_json::from_str::<Capability>("\"resmue\"").unwrap_err().to_string();
        assert!(error.starts_with("unknown capability \"resmue\"; nearest: resume"), "{error}");
    }
}
