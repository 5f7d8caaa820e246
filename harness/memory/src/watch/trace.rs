//! Reads the steps of `update` events from a trace while a command writes it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::Deserialize;

use super::pattern::Counter;

/// The most that is read at once. The rest is read with the next sample.
const READ_MOST_BYTES: u64 = 4 << 20;

/// Longer lines are ignored: lines of updates are short.
const LINE_MOST_BYTES: usize = 64 << 10;

/// A trace that grows.
#[derive(Debug)]
pub struct TraceTail {
    path: PathBuf,
    inode: u64,
    read_bytes: u64,
    line: Vec<u8>,
    counter: Counter,
}

#[derive(Deserialize)]
struct Event {
    event: String,
    step: Option<u64>,
}

impl TraceTail {
    /// Follows `path` from its current end, because an earlier run may have written it. Follows a file that does not
    /// exist yet from its beginning.
    pub fn follow(path: PathBuf) -> Self {
        let (inode, read_bytes) = fs::metadata(&path).map_or((0, 0), |it| (it.ino(), it.len()));
        Self { path, inode, read_bytes, line: Vec::new(), counter: Counter::default() }
    }

    /// The last step written since the previous call.
    pub fn read(&mut self) -> Option<u64> {
        // A trace that does not exist (yet) has no new step.
        let bytes = self.new_bytes().unwrap_or_default();
        let mut last = None;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            // One byte beyond the limit is enough to know that the line is too long.
            let room = (LINE_MOST_BYTES + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                last = update(&self.line).and_then(|step| self.counter.count(step)).or(last);
                self.line.clear();
            }
        }
        last
    }

    fn new_bytes(&mut self) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        let found = file.metadata()?;
        if found.ino() != self.inode || found.len() < self.read_bytes {
            (self.inode, self.read_bytes) = (found.ino(), 0);
            self.line.clear();
        }
        file.seek(SeekFrom::Start(self.read_bytes))?;
        let mut bytes = Vec::new();
        self.read_bytes += file.take(READ_MOST_BYTES).read_to_end(&mut bytes)? as u64;
        Ok(bytes)
    }
}

/// The step of an `update` event. Other lines are ignored, even invalid ones: `check` judges the trace.
fn update(line: &[u8]) -> Option<u64> {
    let event: Event = serde_json::from_slice(line).ok()?;
    event.step.filter(|_| event.event == "update")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_steps_of_updates_are_found_as_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.jsonl");
        let mut tail = TraceTail::follow(path.clone());
        assert_eq!(tail.read(), None, "there is no file yet");
        let mut file = File::create(&path).unwrap();
        let mut write = |text: &str| file.write_all(text.as_bytes()).unwrap();
        write("{\"event\":\"run\"}\n{\"event\":\"update\",\"step\":1,\"lr\":[0.1]}\n{\"event\":\"upd");
        assert_eq!(tail.read(), Some(1));
        write("ate\",\"step\":2}\n{\"event\":\"memory\",\"step\":9}\nno json, \u{fffd}\n");
        assert_eq!(tail.read(), Some(2));
        write(&format!("{{\"event\":\"state\",\"rng\":\"{}\"}}\n", "7".repeat(2 * LINE_MOST_BYTES)));
        assert_eq!(tail.read(), None);
        write("{\"event\":\"update\",\"step\":3}\n");
        assert_eq!(tail.read(), Some(3));
        assert_eq!(tail.read(), None);
    }

    #[test]
    fn what_an_earlier_run_left_is_not_this_one_s() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.jsonl");
        let update = |step: u64| format!("{{\"event\":\"update\",\"step\":{step}}}\n");
        fs::write(&path, update(700)).unwrap();
        let mut tail = TraceTail::follow(path.clone());
        assert_eq!(tail.read(), None);
        fs::write(&path, update(1)).unwrap();
        assert_eq!(tail.read(), Some(1), "written over");
        let other = folder.path().join("other.jsonl");
        fs::write(&other, [update(1), update(2)].concat()).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(tail.read(), Some(2), "replaced");
    }
}
