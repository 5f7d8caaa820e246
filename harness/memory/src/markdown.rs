//! Text that stays text on a Markdown page.

/// Text of a trainer that means nothing to Markdown and stays on its line.
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
