//! Weights & Biases' run files: blocks of 32 KiB, as LevelDB's log has them, of protocol buffer `Record`s.
//!
//! History records are read: what the script logged. The system's own samples have no step, and are passed over.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crc::{CRC_32_ISO_HDLC, Crc, Table};
use serde_json::Value as Json;

use super::json_lines::number;
use super::protobuf::{Fields, Malformed, Value};
use crate::LogError;
use crate::rows::{Row, Rows};

const CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISO_HDLC);
const BLOCK_BYTES: usize = 32 << 10;
/// Checksum, length and kind.
const HEADER_BYTES: usize = 7;
const MAGIC: &[u8] = b":W&B\xe1\xbe\x00";

/// The kinds of chunk.
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// Reads a run file.
pub(crate) fn read(path: &Path) -> Result<Rows, LogError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(LogError::io(path))?;
    if !bytes.starts_with(MAGIC) {
        let problem =
            "it does not begin with :W&B and version 0; export the history as CSV and give --columns"
                .to_owned();
        return Err(LogError::OtherFormat {
            path: path.to_owned(),
            expected: "a run file of wandb",
            problem,
        });
    }
    let (mut rows, mut record, mut begun) = (Rows::default(), Vec::new(), 0);
    let mut at = MAGIC.len();
    loop {
        // A header does not cross into the next block.
        let room = BLOCK_BYTES - at % BLOCK_BYTES;
        at += if room < HEADER_BYTES { room } else { 0 };
        let damaged = |problem| LogError::Damaged { path: path.to_owned(), offset: at as u64, problem };
        let Some((kind, data)) = chunk(&bytes, at).map_err(damaged)? else { break };
        if matches!(kind, FULL | FIRST) {
            (begun, record) = (at, Vec::new());
        }
        record.extend_from_slice(data);
        at += HEADER_BYTES + data.len();
        if matches!(kind, FULL | LAST) {
            let problem = "the record is not one of wandb; export the history as CSV and give --columns";
            history(&record, &mut rows).map_err(|Malformed| LogError::Damaged {
                path: path.to_owned(),
                offset: begun as u64,
                problem,
            })?;
            record.clear();
        }
    }
    if at < bytes.len() || !record.is_empty() {
        rows.cut(&format!("the last record, at byte {},", if record.is_empty() { at } else { begun }));
    }
    Ok(rows)
}

/// The chunk at a place. None at the end of the file, or if the file ends within the chunk.
fn chunk(bytes: &[u8], at: usize) -> Result<Option<(u8, &[u8])>, &'static str> {
    let left = bytes.get(at..).unwrap_or_default();
    let Some((header, rest)) = left.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let [a, b, c, d, low, high, kind] = *header;
    let length = usize::from(u16::from_le_bytes([low, high]));
    if length > BLOCK_BYTES - at % BLOCK_BYTES - HEADER_BYTES {
        return Err("the length of the record leads out of its block");
    }
    let Some(data) = rest.get(..length) else { return Ok(None) };
    let mut digest = CRC.digest();
    digest.update(&[kind]);
    digest.update(data);
    let holds =
        digest.finalize() == u32::from_le_bytes([a, b, c, d]) && matches!(kind, FULL | FIRST | MIDDLE | LAST);
    match holds {
        true => Ok(Some((kind, data))),
        // The last writes of a killed process may be lost: zeros, or a record that ends the file.
        false if rest.len() == length || left.iter().all(|byte| *byte == 0) => Ok(None),
        false => Err("the record does not fit its checksum"),
    }
}

/// `Record`: history 2. `HistoryRecord`: item 1.
fn history(record: &[u8], rows: &mut Rows) -> Result<(), Malformed> {
    for field in Fields(record) {
        if let (2, Value::Bytes(history)) = field? {
            let mut row = Row::default();
            for field in Fields(history) {
                if let (1, Value::Bytes(it)) = field?
                    && let Some((name, value)) = item(it)?
                {
                    row.figures.push((rows.name(&name), value));
                }
            }
            rows.rows.push(row);
        }
    }
    Ok(())
}

/// `HistoryItem`: key 1, nested_key 2, value_json 16. None if it is no number.
fn item(item: &[u8]) -> Result<Option<(String, f64)>, Malformed> {
    let (mut key, mut nested, mut json) = (String::new(), Vec::new(), None);
    for field in Fields(item) {
        match field? {
            (1, Value::Bytes(bytes)) => key = String::from_utf8_lossy(bytes).into_owned(),
            (2, Value::Bytes(bytes)) => nested.push(String::from_utf8_lossy(bytes)),
            (16, Value::Bytes(bytes)) => json = Some(bytes),
            _ => {}
        }
    }
    let name = if nested.is_empty() { key } else { nested.join(".") };
    let value: Option<Json> = json.and_then(|json| match json {
        // As Python's json and wandb's own writer have them.
        b"NaN" | b"Infinity" | b"-Infinity" => {
            std::str::from_utf8(json).ok().map(|it| Json::from(it.to_owned()))
        }
        _ => serde_json::from_slice(json).ok(),
    });
    Ok(value.as_ref().and_then(number).map(|value| (name, value)))
}

#[cfg(test)]
mod tests {
    use super::super::protobuf::testing::bytes;
    use super::*;

    fn written(records: &[Vec<u8>]) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        for record in records {
            let (mut rest, mut first) = (record.as_slice(), true);
            loop {
                let room = BLOCK_BYTES - file.len() % BLOCK_BYTES;
                if room < HEADER_BYTES {
                    file.extend(vec![0; room]);
                    continue;
                }
                let (data, after) = rest.split_at(rest.len().min(room - HEADER_BYTES));
                let kind = match (first, after.is_empty()) {
                    (true, true) => FULL,
                    (true, false) => FIRST,
                    (false, false) => MIDDLE,
                    (false, true) => LAST,
                };
                let checksum = CRC.checksum(&[&[kind], data].concat());
                file.extend(
                    [&checksum.to_le_bytes(), (data.len() as u16).to_le_bytes().as_slice(), &[kind], data]
                        .concat(),
                );
                (rest, first) = (after, false);
                if rest.is_empty() {
                    break;
                }
            }
        }
        file
    }

    fn entry(name: &str, json: &str) -> Vec<u8> {
        let item = [bytes(2, name.as_bytes()), vec![0x82, 0x01, json.len() as u8], json.as_bytes().to_vec()]
            .concat();
        bytes(2, &bytes(1, &item))
    }

    fn read_bytes(bytes: &[u8]) -> Result<Rows, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read(file.path()).map_err(|error| error.to_string())
    }

    /// A record that is no history, of this length.
    fn other(length: usize) -> Vec<u8> {
        let mut record =
            vec![0x1a, (length & 0x7f | 0x80) as u8, (length >> 7 & 0x7f | 0x80) as u8, (length >> 14) as u8];
        record.extend(vec![7; length]);
        record
    }

    #[test]
    fn history_is_read_over_the_edges_of_blocks() {
        for before in BLOCK_BYTES - 60..BLOCK_BYTES + 20 {
            let rows =
                read_bytes(&written(&[other(before), entry("loss", "0.5"), entry("loss", "NaN")])).unwrap();
            let values: Vec<String> = rows.rows.iter().map(|row| row.figures[0].1.to_string()).collect();
            assert_eq!((values, rows.notes.len()), (vec!["0.5".to_owned(), "NaN".to_owned()], 0), "{before}");
        }
    }

    #[test]
    fn a_file_that_ends_anywhere_is_read_up_to_there() {
        let first = written(&[entry("loss", "0.5")]);
        let whole = written(&[entry("loss", "0.5"), other(70_000)]);
        for end in
            [first.len(), first.len() + 3, first.len() + 20, BLOCK_BYTES, BLOCK_BYTES + 4, whole.len() - 1]
        {
            let rows = read_bytes(&whole[..end]).unwrap();
            assert_eq!((rows.rows.len(), rows.notes.len()), (1, usize::from(end > first.len())), "{end}");
        }
    }

    #[test]
    fn a_damaged_record_is_an_error_with_its_place_and_never_a_panic() {
        let first = written(&[entry("loss", "0.5")]);
        let whole = written(&[entry("loss", "0.5"), entry("loss", "0.5"), entry("loss", "0.5")]);
        for at in first.len()..first.len() + 4 {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x41;
            let error = read_bytes(&damaged).unwrap_err();
            assert!(error.contains(&format!("byte {}: the record does not fit", first.len())), "{error}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x41;
            let _ = read_bytes(&damaged);
        }
    }
}
