//! A training script, killed at every file operation of its saves and resumed: does it end as if nothing had
//! happened?
//!
//! The script is any command on Linux, in any language. Both commands name the folder of the run as `{out}`.
//!
//! 1. The script runs to its end twice, each time in an empty `{out}`. What differs between the two ends is not
//!    compared.
//! 2. During the second run each operation on files below `{out}` is observed, in all threads and child processes:
//!    mkdir, open for writing, write, truncate, fsync, rename, link, unlink, rmdir. Before each of them `{out}` is
//!    copied, while the script stands still: this is what SIGKILL of the whole process group would leave at that
//!    moment. Writes to one file with nothing else between them count as one operation.
//! 3. What is left is resumed: for each operation as it is before it; for each write also with half of its bytes
//!    arrived (torn); after each rename and at the end of each save also with everything lost that was not synced
//!    (the model of power loss is described in `crash/unsynced.rs`). States that a program cannot tell apart are
//!    resumed once.
//! 4. The files below `{out}` at the end are compared with the fault-free end, byte for byte. Files that are also
//!    made differently when the run is killed between two saves are not compared: a log with repeated lines is no
//!    damage of a save.
//!
//! **Why ptrace.** Python's audit hooks do not see the C++ writer of torch or the Rust writer of safetensors, and a
//! library that is preloaded misses static programs. ptrace sees each system call of any program, needs no privileges
//! for one's own child processes and no installed tool, and stops all threads for free: a thread cannot begin a
//! system call while another is looked at. strace injects a signal at the n-th call of a thread, counted per thread
//! and not per file, and cannot tear a write. The price is two stops per system call: a script that imports torch and
//! transformers makes about 115 000 of them.
//!
//! **Why copies and not kills.** A run that is killed anew for each point must repeat its operations exactly, and
//! costs a whole run per point. A copy at the moment of the operation has the same bytes, of the same run. What the
//! script keeps elsewhere (`/tmp`, `/dev/shm`, a server) is as the fault-free run left it: a crash that depends on it
//! is not covered. Neither is the death of one process among several while the others go on.

mod judge;
mod observe;
mod operation;
mod points;
mod report;
mod repro;
mod rig;
mod saves;
#[cfg(test)]
mod tests;
mod thread;
mod trace;
mod tree;
mod unsynced;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub use judge::Verdict;
pub use points::Left;
pub use report::{CrashReport, LeftOut, PointReport};

use judge::{Judge, marker};
use observe::{Observer, Resumed, Step};
use points::{Point, killed_and_torn, sample, unsynced};
use rig::{Outcome, Rig};
use saves::{Names, Save, saves};
use trace::Status;
use tree::{Node, Store, Tree};

/// What is to be killed, and how it goes on.
#[derive(Clone, Debug)]
pub struct Request {
    /// The training script, as program and arguments.
    pub command: Vec<OsString>,
    /// The same for the resume.
    pub resume: Vec<OsString>,
    /// About how many kills and torn writes to try; all if it is not set.
    pub sample: Option<usize>,
    /// An existing, empty folder for `{out}` and the copies.
    pub work: PathBuf,
    /// Gets the smallest script that shows the worst finding.
    pub repro: Option<PathBuf>,
}

/// Why nothing can be judged.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CrashError {
    #[error("{what} has no word with {{out}}: write {{out}} where it takes the folder of the run")]
    NoPlace { what: &'static str },
    #[error(
        "this process may not trace its child processes ({0}): allow ptrace (kernel.yama.ptrace_scope at most 1)"
    )]
    NotPermitted(io::Error),
    #[error("the fault-free run failed ({status}): nothing was killed; it ended with\n{said}")]
    Failed { status: String, said: String },
    #[error("the command wrote no file below {{out}}")]
    NothingWritten,
    #[error(
        "--resume read no file that was below {{out}}, at any of {points} points: does it resume from {{out}}?"
    )]
    NothingRead { points: usize },
    #[error(
        "--resume failed after each kill between two saves ({status}): it does not resume at all; it ended with\n{said}"
    )]
    NeverResumes { status: String, said: String },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A point and what came of it.
struct Tried {
    point: Point,
    outcome: Rc<Outcome>,
}

/// Observes, kills, resumes and judges. `tell` hears how many of how many points are done.
pub fn crash(request: &Request, tell: &mut dyn FnMut(usize, usize)) -> Result<CrashReport, CrashError> {
    let mut rig = Rig::new(&request.work, &request.command, &request.resume)?;
    let mut store = Store::new(request.work.join("contents"))?;
    rig.whole(&mut Resumed::default())?;
    let again = store.read(&rig.root)?;
    let root = rig.root.clone();
    let mut observer = Observer::new(&root, &mut store);
    rig.whole(&mut observer)?;
    let steps = observer.steps;
    let end = store.read(&rig.root)?;
    if steps.iter().all(|step| step.operation.makes().is_none()) {
        return Err(CrashError::NothingWritten);
    }

    let mut points = killed_and_torn(&steps, &end, &mut store)?;
    if let Some(most) = request.sample {
        points = sample(points, &steps, most);
    }
    let mut tried = attempt(points, &mut rig, &mut store, tell)?;
    let names = Names::of(&steps);
    let read: BTreeSet<PathBuf> =
        tried.iter().flat_map(|it| &it.outcome.resumed.read).map(|path| names.general(path)).collect();
    if read.is_empty() {
        return Err(CrashError::NothingRead { points: tried.len() });
    }
    let saves = saves(&steps, &names, &read);
    let losses = unsynced(&steps, &saves, &mut store)?;
    tried.extend(attempt(losses, &mut rig, &mut store, tell)?);

    // Where nothing is being saved: `{out}` is whole, and a resume that does its work must be right.
    let between = attempt(between(&steps, &saves), &mut rig, &mut store, &mut |_, _| {})?;
    let resumed: Vec<&Tried> = between.iter().filter(|it| it.outcome.status == Status::Exited(0)).collect();
    if let (Some(Tried { outcome, .. }), true) = (between.last(), resumed.is_empty()) {
        return Err(CrashError::NeverResumes {
            status: rig::shown(outcome.status),
            said: outcome.said.clone(),
        });
    }
    let (compared, left_out) = comparable(&end, &again, &resumed);
    let mut judge = Judge {
        steps: &steps,
        saves: &saves,
        names: &names,
        end: compared,
        marker: marker(&steps, &names, &read),
        habit: 0,
        needs_checkpoint: tried[0].outcome.status != Status::Exited(0),
    };
    let more =
        |it: &&Tried| judge.made(&it.outcome).saturating_sub(judge.remaining(judge.complete(&it.point)));
    judge.habit = resumed.iter().map(more).min().unwrap_or(0);

    let report = CrashReport::of(request, &judge, &tried, left_out, rig.resumes());
    if let (Some(folder), Some(worst)) = (&request.repro, report.worst()) {
        let is_it = |it: &&Tried| it.point.at + 1 == worst.operation && it.point.left == worst.left;
        if let Some(Tried { point, .. }) = tried.iter().find(is_it) {
            repro::write(folder, request, (&report, worst), (&point.tree, &end), &store)?;
        }
    }
    Ok(report)
}

fn attempt(
    points: Vec<Point>,
    rig: &mut Rig,
    store: &mut Store,
    tell: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Tried>, CrashError> {
    let all = points.len();
    let mut tried = Vec::new();
    for (done, point) in points.into_iter().enumerate() {
        tell(done, all);
        let outcome = rig.resume(&point.tree, store)?;
        tried.push(Tried { point, outcome });
    }
    Ok(tried)
}

/// Killed just before the second save and each later one.
fn between(steps: &[Step], saves: &[Save]) -> Vec<Point> {
    let before = |save: &Save| {
        let tree = steps[save.start].before.clone();
        Point { at: save.start, left: Left::Killed, tree }
    };
    saves.iter().skip(1).map(before).collect()
}

/// The files of the fault-free end that every run leaves alike, and the others, each with the reason.
fn comparable(end: &Tree, again: &Tree, resumed: &[&Tried]) -> (Tree, Vec<LeftOut>) {
    let unsteady: BTreeSet<PathBuf> = end.differing(again).into_iter().collect();
    let made_differently = |path: &Path| {
        let is_whole = |tree: &Tree| tree.content(path) == end.content(path);
        // A file that was whole when the run was killed says nothing of how a resume makes it.
        let mut made = resumed.iter().filter(|it| !is_whole(&it.point.tree)).peekable();
        made.peek().is_some() && made.all(|it| !is_whole(&it.outcome.end))
    };
    let (mut compared, mut left_out) = (Tree::default(), Vec::new());
    for (path, node) in end.0.iter().filter(|(_, node)| !matches!(node, Node::Folder(_))) {
        let why = match unsteady.contains(path) {
            true => "differs between two fault-free runs",
            false if made_differently(path) => {
                "every resume after a kill between two saves makes it differently: see traintrue cut"
            }
            false => {
                compared.0.insert(path.clone(), node.clone());
                continue;
            }
        };
        left_out.push(LeftOut { path: path.clone(), why });
    }
    (compared, left_out)
}
