//! Lays what a user states over the first line of a trace on its way to the disk, so that everything after it sees one
//! contract.

use std::io::{self, Write};

use traintrue_protocol::contract::Stated;
use traintrue_protocol::trace::LINE_LIMIT_BYTES;

/// Writes to `to` what it is given, but for the contract in the first line.
pub struct Stating<W> {
    to: W,
    stated: Stated,
    /// The first line as far as it has come; nothing once it was passed on.
    first: Option<Vec<u8>>,
}

impl<W: Write> Stating<W> {
    /// Nothing yet.
    pub fn new(to: W, stated: Stated) -> Self {
        Self { to, stated, first: Some(Vec::new()) }
    }

    fn pass_on(&mut self, line: &[u8]) -> io::Result<()> {
        // What is no JSON is passed on as it is: the judge says so.
        match serde_json::from_slice(line) {
            Ok(mut said) => {
                self.stated.lay_over(&mut said);
                writeln!(self.to, "{said}")
            }
            Err(_) => self.to.write_all(line),
        }
    }
}

impl<W: Write> Write for Stating<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(first) = &mut self.first else { return self.to.write(bytes) };
        let end = bytes.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
        let taken = end.unwrap_or(bytes.len());
        first.extend_from_slice(&bytes[..taken]);
        if end.is_some()
            && let Some(line) = self.first.take()
        {
            if line.trim_ascii().is_empty() {
                self.first = Some(Vec::new());
            } else {
                self.pass_on(&line)?;
            }
        } else if self.first.as_ref().is_some_and(|first| first.len() > LINE_LIMIT_BYTES) {
            self.flush()?;
        }
        Ok(taken)
    }

    /// A line that has no end is passed on as it is.
    fn flush(&mut self) -> io::Result<()> {
        if let Some(line) = self.first.take_if(|first| !first.is_empty()) {
            self.to.write_all(&line)?;
        }
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use traintrue_protocol::contract::Tail;

    fn through(pieces: &[&str]) -> String {
        let mut to = Vec::new();
        let stated = Stated { tail: Some(Tail::Carry), deterministic: Some(false), ..Stated::default() };
        let mut stating = Stating::new(&mut to, stated);
        pieces.iter().for_each(|piece| stating.write_all(piece.as_bytes()).unwrap());
        stating.flush().unwrap();
        String::from_utf8(to).unwrap()
    }

    const REST: &str = "{\"event\":\"end\",\"contract\":{\"tail\":\"drop\"}}\n";

    #[rstest]
    #[case::in_place_of_its_own(
        r#"{"contract":{"tail":"flush","gradients":"mean"}}"#,
        r#"{"contract":{"deterministic":false,"gradients":"mean","tail":"carry"},"declared":{"gradients":"mean","tail":"flush"}}"#
    )]
    #[case::where_it_has_none("{}", r#"{"contract":{"deterministic":false,"tail":"carry"},"declared":null}"#)]
    #[case::but_for_what_the_plan_asks(
        r#"{"contract":{"tail":"drop"},"plan":{"contract":{"tail":"drop"}}}"#,
        r#"{"contract":{"deterministic":false,"tail":"drop"},"declared":{"tail":"drop"},"plan":{"contract":{"tail":"drop"}}}"#
    )]
    #[case::not_where_it_is_no_json("epoch 1", "epoch 1")]
    fn what_is_stated_stands_in_the_first_line_alone(#[case] first: &str, #[case] stated: &str) {
        let whole = format!("{first}\n{REST}");
        assert_eq!(through(&[&whole]), format!("{stated}\n{REST}"));
        let (a, b) = whole.split_at(first.len() / 2);
        assert_eq!(through(&[a, b]), format!("{stated}\n{REST}"));
    }

    #[test]
    fn half_a_line_is_half_a_line() {
        assert_eq!(through(&["{\"event\":", "\"ru"]), "{\"event\":\"ru");
    }
}
