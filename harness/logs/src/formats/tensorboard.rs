//! TensorBoard's event files: records with a length and two checksums, each a protocol buffer `Event`.
//!
//! Scalars are read, as `tf.summary`, torch and tensorboardX write them. One process writes one file; a resumed run adds
//! a file to the folder. Text, images and histograms are passed over.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISCSI, Crc, Table};

use super::protobuf::{Fields, Malformed, Value};
use crate::LogError;
use crate::rows::Rows;

/// What every event file has in its name.
pub(crate) const IN_NAME: &str = ".tfevents.";

const CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
const LENGTH_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 4;

/// Reads event files, the oldest first: the seconds since 1970 are in each name.
pub(crate) fn read(files: &[PathBuf]) -> Result<Rows, LogError> {
    let mut rows = Rows::default();
    for file in files {
        rows.start();
        read_file(file, &mut rows)?;
    }
    Ok(rows)
}

fn read_file(path: &Path, rows: &mut Rows) -> Result<(), LogError> {
    let file = File::open(path).map_err(LogError::io(path))?;
    let size = file.metadata().map_err(LogError::io(path))?.len();
    let mut records = Records { path, reader: BufReader::new(file), size, offset: 0 };
    let mut record = Vec::new();
    loop {
        let offset = records.offset;
        match records.next(&mut record)? {
            Next::End => return Ok(()),
            Next::Cut => {
                rows.cut(&format!("the last record of {}, at byte {offset},", path.display()));
                return Ok(());
            }
            Next::Record => {
                event(&record, rows).map_err(|Malformed| damaged(path, offset, "the record is no event"))?
            }
        }
    }
}

fn damaged(path: &Path, offset: u64, problem: &'static str) -> LogError {
    LogError::Damaged { path: path.to_owned(), offset, problem }
}

struct Records<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    size: u64,
    offset: u64,
}

enum Next {
    Record,
    /// The file ends within the record.
    Cut,
    End,
}

impl Records<'_> {
    fn next(&mut self, record: &mut Vec<u8>) -> Result<Next, LogError> {
        let left = self.size - self.offset;
        let header = self.take(left.min((LENGTH_BYTES + CHECKSUM_BYTES) as u64))?;
        let Some((length, checksum)) =
            header.split_at_checked(LENGTH_BYTES).filter(|it| it.1.len() == CHECKSUM_BYTES)
        else {
            return Ok(if left == 0 { Next::End } else { Next::Cut });
        };
        let begun = self.size - left;
        if !holds(length, checksum) {
            // A file system that lost the last writes leaves zeros.
            let lost = header.iter().chain(&self.take(self.size - self.offset)?).all(|byte| *byte == 0);
            return match begun {
                0 => Err(damaged(
                    self.path,
                    0,
                    "not a record of an event file: its length does not fit its checksum",
                )),
                _ if lost => Ok(Next::Cut),
                _ => Err(damaged(self.path, begun, "the length of the record does not fit its checksum")),
            };
        }
        let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
        let rest = left - (LENGTH_BYTES + CHECKSUM_BYTES) as u64;
        if length.checked_add(CHECKSUM_BYTES as u64).is_none_or(|needed| needed > rest) {
            return Ok(Next::Cut);
        }
        *record = self.take(length + CHECKSUM_BYTES as u64)?;
        let checksum = record.split_off(length as usize);
        match holds(record, &checksum) {
            true => Ok(Next::Record),
            false if self.offset == self.size => Ok(Next::Cut),
            false => Err(damaged(self.path, begun, "the record does not fit its checksum")),
        }
    }

    /// The next bytes of the file, of which there are as many.
    fn take(&mut self, length: u64) -> Result<Vec<u8>, LogError> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(length).read_to_end(&mut bytes);
        read.map_err(LogError::io(self.path))?;
        self.offset += length;
        Ok(bytes)
    }
}

/// Whether the bytes have this masked CRC-32C.
fn holds(bytes: &[u8], checksum: &[u8]) -> bool {
    masked(bytes).to_le_bytes() == checksum
}

fn masked(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// `Event`: step 2, summary 5.
fn event(record: &[u8], rows: &mut Rows) -> Result<(), Malformed> {
    let (mut step, mut summary) = (0, None);
    for field in Fields(record) {
        match field? {
            (2, Value::Varint(value)) => step = value as i64,
            (5, Value::Bytes(bytes)) => summary = Some(bytes),
            _ => {}
        }
    }
    for field in Fields(summary.unwrap_or_default()) {
        if let (1, Value::Bytes(value)) = field?
            && let Some((tag, scalar)) = scalar(value)?
        {
            rows.scalar(step, tag, scalar);
        }
    }
    Ok(())
}

/// `Summary.Value`: tag 1, simple_value 2, tensor 8. None if it is no scalar.
fn scalar(value: &[u8]) -> Result<Option<(&str, f64)>, Malformed> {
    let (mut tag, mut scalar) = (None, None);
    for field in Fields(value) {
        match field? {
            (1, Value::Bytes(bytes)) => tag = std::str::from_utf8(bytes).ok(),
            (2, Value::Fixed32(bytes)) => scalar = Some(f64::from(f32::from_le_bytes(bytes))),
            (8, Value::Bytes(bytes)) => scalar = tensor(bytes)?,
            _ => {}
        }
    }
    Ok(tag.zip(scalar))
}

/// `TensorProto`: tensor_content 4, float_val 5, double_val 6; its dtype, 1, is 1 for f32 and 2 for f64.
fn tensor(tensor: &[u8]) -> Result<Option<f64>, Malformed> {
    let (mut dtype, mut value) = (0, None);
    for field in Fields(tensor) {
        match field? {
            (1, Value::Varint(it)) => dtype = it,
            (4..=6, Value::Bytes(bytes)) => value = Some(bytes),
            (5, Value::Fixed32(bytes)) => return Ok(Some(f64::from(f32::from_le_bytes(bytes)))),
            (6, Value::Fixed64(bytes)) => return Ok(Some(f64::from_le_bytes(bytes))),
            _ => {}
        }
    }
    let value = value.unwrap_or_default();
    Ok(match dtype {
        1 => value.try_into().ok().map(|bytes| f64::from(f32::from_le_bytes(bytes))),
        2 => value.try_into().ok().map(f64::from_le_bytes),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::protobuf::testing::{bytes, f32, varint};
    use super::*;

    fn record(data: &[u8]) -> Vec<u8> {
        let length = (data.len() as u64).to_le_bytes();
        [&length, masked(&length).to_le_bytes().as_slice(), data, &masked(data).to_le_bytes()].concat()
    }

    fn loss(step: u8, value: f32) -> Vec<u8> {
        let value = [bytes(1, b"loss"), f32(2, value)].concat();
        record(&[varint(2, step), bytes(5, &bytes(1, &value))].concat())
    }

    fn read_bytes(files: &[Vec<u8>]) -> Result<Rows, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = |at: usize| folder.path().join(format!("e{IN_NAME}{at}"));
        files.iter().enumerate().for_each(|(at, bytes)| std::fs::write(path(at), bytes).unwrap());
        let paths: Vec<PathBuf> = (0..files.len()).map(path).collect();
        read(&paths).map_err(|error| error.to_string())
    }

    #[test]
    fn scalars_are_rows_and_each_file_is_a_process() {
        let rows = read_bytes(&[[loss(1, 0.5), loss(2, f32::NAN)].concat(), loss(2, 0.25)]).unwrap();
        let steps: Vec<_> = rows.rows.iter().map(|row| (row.step, row.figures[0].1.to_string())).collect();
        assert_eq!(steps, [(Some(1), "0.5".into()), (Some(2), "NaN".into()), (Some(2), "0.25".into())]);
        assert_eq!((rows.starts, rows.names), (vec![2], vec!["loss".to_owned()]));
    }

    #[rstest]
    #[case::content(&[varint(1, 1), bytes(4, &0.5_f32.to_le_bytes())], Some(0.5))]
    #[case::float(&[varint(1, 1), bytes(5, &0.5_f32.to_le_bytes())], Some(0.5))]
    #[case::double(&[varint(1, 2), bytes(6, &0.5_f64.to_le_bytes())], Some(0.5))]
    #[case::two(&[varint(1, 1), bytes(4, &[0; 8])], None)]
    #[case::text(&[varint(1, 7), bytes(8, b"text")], None)]
    fn a_tensor_of_one_number_is_a_scalar(#[case] fields: &[Vec<u8>], #[case] value: Option<f64>) {
        assert_eq!(tensor(&fields.concat()), Ok(value));
    }

    #[test]
    fn a_file_that_ends_anywhere_is_read_up_to_there() {
        let whole = [loss(1, 0.5), loss(2, 0.25)].concat();
        let first = loss(1, 0.5).len();
        for end in first..whole.len() {
            let rows = read_bytes(&[whole[..end].to_vec()]).unwrap();
            assert_eq!((rows.rows.len(), rows.notes.len()), (1, usize::from(end > first)), "{end}");
        }
        let rows = read_bytes(&[[&whole[..first], &[0; 40]].concat()]).unwrap();
        assert!(rows.notes[0].contains(&format!("at byte {first}, is incomplete")), "{:?}", rows.notes);
    }

    #[test]
    fn a_damaged_record_is_an_error_with_its_place_and_never_a_panic() {
        let whole = [loss(1, 0.5), loss(2, 0.25), loss(3, 0.25)].concat();
        let length = whole.len() / 3;
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x41;
            let found = read_bytes(&[damaged]);
            // The length of the last record is checked before it is believed.
            if at < 2 * length + 12 {
                let error = found.unwrap_err();
                assert!(error.contains(&format!("byte {}: ", at / length * length)), "{at}: {error}");
            } else {
                assert_eq!(found.unwrap().rows.len(), 2, "{at}");
            }
        }
    }

    #[test]
    fn a_record_that_is_no_event_is_an_error() {
        let error = read_bytes(&[record(&[0x0b])]).unwrap_err();
        assert!(
            error.ends_with("byte 0: the record is no event; the rest of the file cannot be read"),
            "{error}"
        );
    }
}
