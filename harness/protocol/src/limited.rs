//! Files that are held in memory whole: read up to a limit, whatever their metadata says.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The bytes of a file; none where there are more than `most`. A pipe or a device has no length beforehand.
pub fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

/// The same of text, wherever it comes from.
pub fn text(from: impl Read, most: u64) -> io::Result<Option<String>> {
    let mut text = String::new();
    from.take(most.saturating_add(1)).read_to_string(&mut text)?;
    Ok((text.len() as u64 <= most).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [7; 10]).unwrap();
        assert_eq!(read(file.path(), 10).unwrap(), Some(vec![7; 10]));
        assert_eq!(read(file.path(), 9).unwrap(), None);
    }

    #[test]
    #[cfg(unix)]
    fn a_device_without_an_end_is_too_long() {
        assert_eq!(read(Path::new("/dev/zero"), 1 << 20).unwrap(), None);
    }
}
