//! Escapes text for a Markdown page.

/// Escapes a trainer's text, so that Markdown shows it literally and on one line.
pub fn plain(text: &str) -> String {
    let mut plain = String::new();
    for character in text.chars() {
        match character {
            '<' => plain.push_str("&lt;"),
            '&' => plain.push_str("&amp;"),
            '\n' | '\r' => plain.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' => plain.extend(['\\', character]),
            other => plain.push(other),
        }
    }
    plain
}
