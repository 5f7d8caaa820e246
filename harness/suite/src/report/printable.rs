//! What a trainer says may hold codes that a terminal obeys, or marks that turn the direction of what follows: they are
//! shown, and not sent.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The same document, with such characters spelt out in all of its texts.
pub(super) fn printable<T: Serialize + DeserializeOwned + Clone>(document: &T) -> T {
    let spelt = serde_json::to_value(document).map(spell_all).and_then(serde_json::from_value);
    // A report is its own JSON document, which is read back elsewhere.
    spelt.unwrap_or_else(|_| document.clone())
}

fn spell_all(value: Value) -> Value {
    match value {
        Value::String(text) if text.chars().any(is_sent) => Value::String(spelt(&text)),
        Value::Array(items) => items.into_iter().map(spell_all).collect(),
        // Names of lanes and of invariants are keys.
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (spelt(&name), spell_all(value))).collect()
        }
        other => other,
    }
}

fn spelt(text: &str) -> String {
    text.chars().map(|c| if is_sent(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

/// Control characters but for the ends of lines, and what turns the direction of text.
fn is_sent(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::title("a\u{1b}]0;b\u{7}", "a\\u{1b}]0;b\\u{7}")]
    #[case::turned("a\u{202e}b", "a\\u{202e}b")]
    #[case::nothing("a\0b", "a\\u{0}b")]
    #[case::text("ä – 漢\nb", "ä – 漢\nb")]
    fn codes_are_shown_and_not_sent(#[case] said: &str, #[case] shown: &str) {
        let document = std::collections::BTreeMap::from([(said.to_owned(), vec![said.to_owned()])]);
        let expected = std::collections::BTreeMap::from([(shown.to_owned(), vec![shown.to_owned()])]);
        assert_eq!(printable(&document), expected);
    }
}
