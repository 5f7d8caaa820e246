//! What is below `{out}` at one moment, and a store that keeps the content of each file once.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use blake3::Hash;

/// A file that changed less than this before it was read may change again within one tick of the clock.
const SETTLED: Duration = Duration::from_secs(2);

/// What has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Folder(SystemTime),
    /// A file.
    File(Content, SystemTime),
    /// A symbolic link.
    Link(PathBuf),
}

/// The content of a file, and its permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    digest: Hash,
    mode: u32,
}

/// Everything below `{out}`, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<PathBuf, Node>);

impl Tree {
    /// The content of a file.
    pub fn content(&self, path: &Path) -> Option<Content> {
        match self.0.get(path) {
            Some(Node::File(content, _)) => Some(*content),
            _ => None,
        }
    }

    /// The same with another content of one file.
    pub fn with(mut self, path: &Path, content: Content) -> Self {
        if let Some(Node::File(old, _)) = self.0.get_mut(path) {
            *old = content;
        }
        self
    }

    /// Files and links of which `other` has other content or none.
    pub fn differing(&self, other: &Self) -> Vec<PathBuf> {
        let same = |path: &Path, node: &Node| match (node, other.0.get(path)) {
            (Node::File(one, _), Some(Node::File(other, _))) => one.digest == other.digest,
            (one, other) => matches!(one, Node::Folder(_)) || other == Some(one),
        };
        self.0.iter().filter(|(path, node)| !same(path, node)).map(|(path, _)| path.clone()).collect()
    }

    /// Equal for trees that a program cannot tell apart by names, contents, or the order of the times of change.
    pub fn fingerprint(&self) -> Hash {
        let mut times: Vec<(SystemTime, &Path)> = Vec::new();
        let mut hasher = blake3::Hasher::new();
        for (path, node) in &self.0 {
            hasher.update(path.as_os_str().as_encoded_bytes()).update(b"\0");
            match node {
                Node::Folder(time) => times.push((*time, path)),
                Node::Link(to) => drop(hasher.update(to.as_os_str().as_encoded_bytes())),
                Node::File(content, time) => {
                    hasher.update(content.digest.as_bytes());
                    times.push((*time, path));
                }
            }
        }
        times.sort();
        for (_, path) in times {
            hasher.update(path.as_os_str().as_encoded_bytes()).update(b"\0");
        }
        hasher.finalize()
    }
}

/// What tells a file and its last change from others: inode, length, time of the last change in seconds and nanoseconds.
type Identity = (u64, u64, i64, i64);

/// Keeps contents in a folder, one file per digest.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Of files that have not changed for a while.
    known: HashMap<Identity, Hash>,
}

impl Store {
    /// An empty store in a folder that is made.
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, known: HashMap::new() })
    }

    /// What is below `root` now.
    pub fn read(&mut self, root: &Path) -> io::Result<Tree> {
        let mut tree = Tree::default();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry?.path();
                let about = fs::symlink_metadata(&path)?;
                let time = about.modified()?;
                let node = if about.is_dir() {
                    folders.push(path.clone());
                    Node::Folder(time)
                } else if about.is_symlink() {
                    Node::Link(fs::read_link(&path)?)
                } else if about.is_file() {
                    Node::File(Content { digest: self.keep(&path, &about)?, mode: about.mode() }, time)
                } else {
                    continue;
                };
                let name = path.strip_prefix(root).unwrap_or(&path).to_owned();
                tree.0.insert(name, node);
            }
        }
        Ok(tree)
    }

    /// Makes `root` hold exactly `tree`.
    pub fn restore(&self, tree: &Tree, root: &Path) -> io::Result<()> {
        clear(root)?;
        for (path, node) in &tree.0 {
            let to = root.join(path);
            match node {
                Node::Folder(_) => fs::create_dir(to)?,
                Node::Link(target) => symlink(target, to)?,
                Node::File(content, time) => {
                    fs::copy(self.blob(content.digest), &to)?;
                    set_time(&to, *time)?;
                    fs::set_permissions(&to, Permissions::from_mode(content.mode))?;
                }
            }
        }
        // A folder's time changes with what is put into it.
        for (path, node) in &tree.0 {
            if let Node::Folder(time) = node {
                set_time(&root.join(path), *time)?;
            }
        }
        Ok(())
    }

    /// What a file holds when half of the bytes that were written have arrived, in order.
    pub fn torn(&mut self, before: Option<Content>, after: Content) -> io::Result<Content> {
        let old = before.map_or(Ok(Vec::new()), |it| self.bytes(it))?;
        let new = self.bytes(after)?;
        let same = |(one, other): (&u8, &u8)| one == other;
        let from = old.iter().zip(&new).take_while(|it| same(*it)).count();
        let until = match old.len() == new.len() {
            true => new.len() - old.iter().rev().zip(new.iter().rev()).take_while(|it| same(*it)).count(),
            false => new.len(),
        };
        let half = from + until.saturating_sub(from) / 2;
        let torn = [&new[..half], old.get(half..).unwrap_or_default()].concat();
        self.put(&torn, after.mode)
    }

    /// An empty file.
    pub fn empty(&mut self, like: Content) -> io::Result<Content> {
        self.put(&[], like.mode)
    }

    /// The bytes of a content.
    pub fn bytes(&self, content: Content) -> io::Result<Vec<u8>> {
        fs::read(self.blob(content.digest))
    }

    fn put(&mut self, bytes: &[u8], mode: u32) -> io::Result<Content> {
        let digest = blake3::hash(bytes);
        let blob = self.blob(digest);
        if !blob.exists() {
            fs::write(blob, bytes)?;
        }
        Ok(Content { digest, mode })
    }

    fn keep(&mut self, path: &Path, about: &fs::Metadata) -> io::Result<Hash> {
        let key = (about.ino(), about.len(), about.ctime(), about.ctime_nsec());
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        // Copied first: what is hashed is what is kept.
        let copy = self.folder.join("copy");
        fs::copy(path, &copy)?;
        let mut hasher = blake3::Hasher::new();
        io::copy(&mut File::open(&copy)?, &mut hasher)?;
        let digest = hasher.finalize();
        fs::rename(copy, self.blob(digest))?;
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(about.ctime().try_into().unwrap_or(0));
        if changed.elapsed().is_ok_and(|age| age > SETTLED) {
            self.known.insert(key, digest);
        }
        Ok(digest)
    }

    fn blob(&self, digest: Hash) -> PathBuf {
        self.folder.join(digest.to_hex().as_str())
    }
}

/// Makes `root` an empty folder.
pub fn clear(root: &Path) -> io::Result<()> {
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir(root)
}

fn set_time(path: &Path, time: SystemTime) -> io::Result<()> {
    File::open(path)?.set_times(FileTimes::new().set_modified(time))
}
