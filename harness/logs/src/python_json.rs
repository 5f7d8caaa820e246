//! JSON as Python writes it, with bare `NaN`, `Infinity` and `-Infinity`, which JSON does not have.

/// What Python writes for a number that is not finite, and how [`traintrue_protocol::number::Number`] reads it.
const NUMBERS: [(&str, &str); 3] = [("NaN", "\"nan\""), ("-Infinity", "\"-inf\""), ("Infinity", "\"inf\"")];

/// Returns standard JSON with the same lines, and the line, from 1, of each object in the document's list called
/// `list`.
pub(crate) fn readable(text: &str, list: &str) -> (String, Vec<u64>) {
    let mut walk = Walk { list, depth: 0, line: 1, key: "", inside: false, lines: Vec::new() };
    let mut readable = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let number = NUMBERS.iter().find(|(python, _)| rest.starts_with(python));
        let taken = match (next, number) {
            ('"', _) => string(rest),
            (_, Some((python, _))) => python.len(),
            _ => next.len_utf8(),
        };
        let (token, after) = rest.split_at(taken);
        walk.see(next, token);
        readable.push_str(number.map_or(token, |(_, json)| *json));
        rest = after;
    }
    (readable, walk.lines)
}

/// The length of the string that `text` begins with, quotes included.
fn string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().enumerate().skip(1).find(|&(_, byte)| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

struct Walk<'a> {
    list: &'a str,
    depth: u64,
    line: u64,
    /// The last string in the outermost object: the key before a value.
    key: &'a str,
    inside: bool,
    lines: Vec<u64>,
}

impl<'a> Walk<'a> {
    fn see(&mut self, first: char, token: &'a str) {
        match first {
            '"' if self.depth == 1 => self.key = token.trim_matches('"'),
            '[' if self.depth == 1 => self.inside = self.key == self.list,
            '{' if self.depth == 2 && self.inside => self.lines.push(self.line),
            ']' if self.depth == 2 => self.inside = false,
            '\n' => self.line += 1,
            _ => {}
        }
        match first {
            '{' | '[' => self.depth += 1,
            '}' | ']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("{\"a\": NaN, \"b\": [-Infinity, Infinity]}", "{\"a\": \"nan\", \"b\": [\"-inf\", \"inf\"]}")]
    #[case(r#"{"NaN": "is NaN \" NaN", "é": -1}"#, r#"{"NaN": "is NaN \" NaN", "é": -1}"#)]
    #[case("\"never ends NaN", "\"never ends NaN")]
    #[case("]}]", "]}]")]
    fn numbers_that_json_has_not_become_strings(#[case] python: &str, #[case] json: &str) {
        assert_eq!(readable(python, "log").0, json);
    }

    #[test]
    fn the_entries_of_the_list_have_their_lines() {
        let text =
            "{\n\"other\": [\n{}],\n\"log\": [\n{\"step\": 1,\n\"more\": [{}]},\n\n{}],\n\"last\": [{}]}";
        assert_eq!(readable(text, "log").1, [5, 8]);
    }
}
