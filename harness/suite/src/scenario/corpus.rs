//! Turns text into samples: a corpus of JSON lines, cut at word ends, as bytes between a begin and an end token.
//!
//! Byte tokens need no vocabulary file, keep ragged lengths as the text has them, and leave the three special ids distinct.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use traintrue_protocol::limited;
use traintrue_protocol::plan::Tokens;

/// Bytes are their own ids; the three special ones follow, so that none of them is 0.
pub const TOKENS: Tokens = Tokens { bos: 256, eos: 257, pad: 258, vocabulary: 259 };

/// A larger corpus is refused: a scenario uses a few thousand pieces, and the text is held in memory.
pub const SIZE_LIMIT_BYTES: u64 = 1 << 30;

/// The longest character in UTF-8: a piece must hold at least one.
pub const PIECE_LEAST_BYTES: u64 = 4;

/// Texts to train on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    texts: Vec<String>,
}

/// Samples cut from a corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    /// Token ids, one entry a sample.
    pub ids: Vec<Vec<u32>>,
    /// How often the corpus began again, because it was too short.
    pub repeated: u64,
}

/// A corpus that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CorpusError {
    #[error("{path}: cannot read the corpus: {source}", path = .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error(
        "{path}: the corpus has more than {SIZE_LIMIT_BYTES} bytes, which is all that is read; give a part of it",
        path = .path.display()
    )]
    TooLarge { path: PathBuf },
    #[error("{path}:{line}: the line is not UTF-8; a corpus holds one JSON object a line: {{\"text\": …}}", path = .path.display())]
    NotUtf8 { path: PathBuf, line: usize },
    #[error("{path}:{line}: {source}; a corpus holds one JSON object a line: {{\"text\": …}}", path = .path.display())]
    Json { path: PathBuf, line: usize, source: serde_json::Error },
    #[error("{path}: the corpus is empty; it must hold one JSON object a line: {{\"text\": …}}", path = .path.display())]
    Empty { path: PathBuf },
    #[error("{path}: no line of the corpus has a word in its text", path = .path.display())]
    NoText { path: PathBuf },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    text: String,
}

impl Corpus {
    /// The text that comes with this crate.
    pub fn shipped() -> Result<Self, CorpusError> {
        const TEXT: &str = include_str!("../../scenarios/corpus.jsonl");
        Self::parse(Path::new("scenarios/corpus.jsonl"), TEXT.as_bytes())
    }

    /// Reads a corpus of one's own.
    pub fn open(path: &Path) -> Result<Self, CorpusError> {
        let io = |source| CorpusError::Io { path: path.to_owned(), source };
        let bytes = limited::read(path, SIZE_LIMIT_BYTES).map_err(io)?;
        Self::parse(path, &bytes.ok_or_else(|| CorpusError::TooLarge { path: path.to_owned() })?)
    }

    /// Parses the bytes of a corpus; `path` is for messages.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, CorpusError> {
        let mut texts = Vec::new();
        let mut lines = 0;
        for (index, bytes) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let line = index + 1;
            let text = std::str::from_utf8(bytes)
                .map_err(|_| CorpusError::NotUtf8 { path: path.to_owned(), line })?;
            if text.trim().is_empty() {
                continue;
            }
            lines += 1;
            let entry: Entry = serde_json::from_str(text).map_err(|source| CorpusError::Json {
                path: path.to_owned(),
                line,
                source,
            })?;
            if !entry.text.trim().is_empty() {
                texts.push(entry.text);
            }
        }
        match (lines, texts.is_empty()) {
            (0, _) => Err(CorpusError::Empty { path: path.to_owned() }),
            (_, true) => Err(CorpusError::NoText { path: path.to_owned() }),
            _ => Ok(Self { texts }),
        }
    }

    /// `count` samples in the order of the text, from piece `offset` on; a corpus that ends begins again.
    pub fn samples(&self, count: u64, piece_bytes: u64, offset: u64) -> Samples {
        let limit = piece_bytes.max(PIECE_LEAST_BYTES) as usize;
        let pieces: Vec<&str> = self.texts.iter().flat_map(|text| pieces(text, limit)).collect();
        let total = pieces.len() as u64;
        let first = offset % total;
        let ids = (0..count).map(|id| encode(pieces[((first + id) % total) as usize])).collect();
        Samples { ids, repeated: count.saturating_sub(1) / total }
    }
}

/// As many whole words as fit into `limit` bytes, again and again; a longer word is cut between two characters.
fn pieces(text: &str, limit: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let piece = &rest[..piece_end(rest, limit)];
        pieces.push(piece);
        rest = rest[piece.len()..].trim_start();
    }
    pieces
}

fn piece_end(rest: &str, limit: usize) -> usize {
    let end = rest.floor_char_boundary(limit);
    if rest[end..].chars().next().is_none_or(char::is_whitespace) {
        return rest[..end].trim_end().len();
    }
    match rest[..end].rfind(char::is_whitespace) {
        Some(space) => rest[..space].trim_end().len(),
        None => end,
    }
}

fn encode(piece: &str) -> Vec<u32> {
    let bytes = piece.bytes().map(u32::from);
    std::iter::once(TOKENS.bos).chain(bytes).chain(std::iter::once(TOKENS.eos)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn corpus(text: &str) -> Result<Corpus, CorpusError> {
        Corpus::parse(Path::new("my.jsonl"), text.as_bytes())
    }

    #[rstest]
    #[case("one two three", 7, &["one two", "three"])]
    #[case("one two three", 8, &["one two", "three"])]
    #[case("one  two", 6, &["one", "two"])]
    #[case("  one  ", 4, &["one"])]
    #[case("incomprehensible it", 6, &["incomp", "rehens", "ible", "it"])]
    #[case("äöü äöü", 5, &["äö", "ü", "äö", "ü"])]
    #[case("äöü äöü", 6, &["äöü", "äöü"])]
    fn texts_are_cut_at_word_ends(#[case] text: &str, #[case] limit: usize, #[case] expected: &[&str]) {
        assert_eq!(pieces(text, limit), expected);
    }

    #[test]
    fn a_sample_is_its_bytes_between_begin_and_end() {
        let samples = corpus("{\"text\": \"ab é\"}").unwrap().samples(1, 20, 0);
        assert_eq!(samples.ids, [[256, 97, 98, 32, 0xc3, 0xa9, 257]]);
    }

    #[test]
    fn a_corpus_that_is_too_short_begins_again_in_order_and_says_so() {
        let corpus = corpus("{\"text\": \"a\"}\n\n{\"text\": \"b\"}\n{\"text\": \" \"}\n").unwrap();
        let letters = |samples: &Samples| samples.ids.iter().map(|ids| ids[1]).collect::<Vec<_>>();
        let samples = corpus.samples(5, 4, 1);
        assert_eq!(letters(&samples), [98, 97, 98, 97, 98]);
        assert_eq!(samples.repeated, 2);
        assert_eq!(corpus.samples(2, 4, 0).repeated, 0);
    }

    #[test]
    fn the_shipped_corpus_has_samples_enough_for_the_longest_scenario() {
        let samples = Corpus::shipped().unwrap().samples(7152, 36, 0);
        assert_eq!((samples.ids.len(), samples.repeated), (7152, 0));
        assert!(samples.ids.iter().all(|ids| (3..=38).contains(&ids.len())));
    }

    #[rstest]
    #[case(b"", "my.jsonl: the corpus is empty")]
    #[case(b"\n \n", "my.jsonl: the corpus is empty")]
    #[case(b"{\"text\": \" \"}", "my.jsonl: no line of the corpus has a word")]
    #[case(b"{\"text\": \"a\"}\n{\"txt\": \"a\"}", "my.jsonl:2: unknown field `txt`, expected `text`")]
    #[case(b"{}", "my.jsonl:1: missing field `text`")]
    #[case(b"{\"text\": 3}", "my.jsonl:1: invalid type: integer `3`, expected a string")]
    #[case(b"{\"text\": \"a\"", "my.jsonl:1: EOF while parsing")]
    #[case(b"{\"text\": \"a\"}\n\xff", "my.jsonl:2: the line is not UTF-8")]
    fn a_bad_corpus_is_one_clear_error(#[case] bytes: &[u8], #[case] message: &str) {
        let error = Corpus::parse(Path::new("my.jsonl"), bytes).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}
