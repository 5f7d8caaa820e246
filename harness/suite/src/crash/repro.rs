//! Shows a finding without traintrue: a shell script that runs the two commands, and the text of an issue.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::points::Left;
use super::report::{CrashReport, PointReport};
use super::rig::PLACE;
use super::tree::{Node, Store, Tree};
use super::{CrashError, Request};

/// Writes `repro.sh`, `left/` (what the crash left) and `ISSUE.md`.
///
/// The script runs the training to its end and takes away what the crash would not have left. Only files that cannot be made
/// this way are copied from `left/`.
pub fn write(
    folder: &Path,
    request: &Request,
    (report, worst): (&CrashReport, &PointReport),
    (left, end): (&Tree, &Tree),
    store: &Store,
) -> Result<(), CrashError> {
    fs::create_dir_all(folder)?;
    store.restore(left, &folder.join("left"))?;
    let script = format!(
        "#!/bin/sh\n# {}.\nhere=$(cd \"$(dirname \"$0\")\" && pwd)\nout=$(mktemp -d)\n{} || exit\n\n# What the crash leaves.\n\
         {}\n{}\necho \"the resume ends with exit status $?\"\n",
        what(worst),
        in_shell(&request.command),
        undo(left, end, store)?,
        in_shell(&request.resume),
    );
    fs::write(folder.join("repro.sh"), script)?;
    fs::write(folder.join("ISSUE.md"), issue(report, worst))?;
    Ok(())
}

/// Commands that make `left` of `end`.
fn undo(left: &Tree, end: &Tree, store: &Store) -> io::Result<String> {
    let mut commands = String::new();
    let mut say = |command: &str, path: &Path| {
        let quoted = quote(path.as_os_str().as_bytes());
        commands += &format!("{command} \"$out\"/{quoted}\n");
        quoted
    };
    let gone = |path: &Path| !left.0.contains_key(path);
    for path in end
        .0
        .keys()
        .filter(|path| gone(path) && !path.parent().is_some_and(|it| it != Path::new("") && gone(it)))
    {
        say("rm -r", path);
    }
    let mut copied = Vec::new();
    for (path, node) in &left.0 {
        match (node, end.content(path)) {
            (Node::Folder(_), _) if end.0.contains_key(path) => {}
            (Node::Folder(_), _) => drop(say("mkdir", path)),
            (Node::File(now, _), Some(then)) if *now == then => {}
            (Node::File(now, _), Some(then)) if store.bytes(then)?.starts_with(&store.bytes(*now)?) => {
                let length = store.bytes(*now)?.len();
                say(&format!("truncate -s {length}"), path);
            }
            (Node::Link(_), _) if end.0.get(path) == Some(node) => {}
            _ => copied.push(quote(path.as_os_str().as_bytes())),
        }
    }
    let copy = |path: &String| format!("cp -a \"$here\"/left/{path} \"$out\"/{path}\n");
    Ok(commands + &copied.iter().map(copy).collect::<String>())
}

fn what(worst: &PointReport) -> String {
    let how = match worst.left {
        Left::Killed => "The process is killed just before",
        Left::Torn => "The process is killed when half of the bytes are written, in",
        Left::Unsynced => "Power is lost, and what was not synced is lost, just before",
    };
    format!("{how} `{}`", worst.before)
}

fn issue(report: &CrashReport, worst: &PointReport) -> String {
    let same = report.count(worst.verdict);
    format!(
        "# After a crash during a save, the resume {}\n\n{}.\n\n- expected: the resume goes on from the newest complete \
         checkpoint (complete at that moment: {}), or says which file is damaged and which checkpoint is whole\n\
         - found: {}\n\n\
         To reproduce: `sh repro.sh`. {same} of {} points in this run come to the same verdict.\n\n```\n{}\n{}\n```\n\n\
         ```\n{}\n```\n\nVersions: (name the framework, its version, the file system)\n",
        match worst.verdict {
            super::Verdict::Different => "ends with other results and exit status 0",
            super::Verdict::Damaged => "leaves a damaged file under its final name",
            super::Verdict::LostWork => "does not use the newest complete checkpoint",
            _ => "fails",
        },
        what(worst),
        worst.complete,
        worst.verdict.name(),
        report.points.len(),
        report.command,
        report.resume,
        worst.evidence,
    )
}

/// A command in which `{out}` is the shell's variable.
fn in_shell(words: &[std::ffi::OsString]) -> String {
    let word = |word: &std::ffi::OsString| {
        let text = word.to_string_lossy();
        let parts: Vec<String> = text.split(PLACE).map(|part| quote(part.as_bytes())).collect();
        parts.join("\"$out\"")
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn quote(text: &[u8]) -> String {
    match text.is_empty() {
        true => String::new(),
        false => String::from_utf8_lossy(&shlex::bytes::try_quote(text).unwrap_or_default()).into_owned(),
    }
}
