//! The first files of a repository that wants to be judged: what it trains with is found, not asked.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config::FILE_NAME;

/// Where GitHub looks for the job.
const JOB: &str = ".github/workflows/traintrue.yml";
/// Folders below which nobody's own training script is.
const NOT_ENTERED: [&str; 7] = ["site-packages", "node_modules", "target", "build", "dist", "tests", "test"];
const DEPTH_MOST: usize = 4;
/// A larger file is no script that somebody wrote.
const SIZE_MOST: u64 = 1 << 20;
/// The job has a step for each of so many scripts; further ones would make it long.
const SCRIPTS_MOST: usize = 3;

/// What a repository trains with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Python files that train with torch, relative to the repository, in order.
    pub scripts: Vec<PathBuf>,
    /// What installs its packages, as arguments of pip.
    pub install: Option<&'static str>,
}

/// A file that `init` wrote, or left because it was there.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// It is new.
    New(PathBuf),
    /// It was there, and is as it was.
    Left(PathBuf),
}

/// Looks through a repository.
pub fn find(root: &Path) -> io::Result<Found> {
    let mut scripts = Vec::new();
    enter(root, 0, &mut scripts)?;
    scripts = scripts.iter().filter_map(|it| Some(it.strip_prefix(root).ok()?.to_owned())).collect();
    scripts.sort_by_key(|it| (it.components().count(), it.clone()));
    let install = [("requirements.txt", "-r requirements.txt"), ("pyproject.toml", "."), ("setup.py", ".")];
    let install = install.into_iter().find(|(file, _)| root.join(file).is_file()).map(|(_, how)| how);
    Ok(Found { scripts, install })
}

fn enter(folder: &Path, depth: usize, scripts: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name().to_string_lossy().into_owned();
        // A virtual environment may have any name.
        let is_own = !name.starts_with('.') && !NOT_ENTERED.contains(&name.as_str());
        if kind.is_dir() && is_own && depth < DEPTH_MOST && !path.join("pyvenv.cfg").exists() {
            enter(&path, depth + 1, scripts)?;
        } else if kind.is_file() && name.ends_with(".py") && !name.starts_with("test_") && trains(&path)? {
            scripts.push(path);
        }
    }
    Ok(())
}

/// Whether a file is a script, and one that trains with torch.
fn trains(path: &Path) -> io::Result<bool> {
    if fs::metadata(path)?.len() > SIZE_MOST {
        return Ok(false);
    }
    let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // A library's module is not run; a script runs something at the start of a line, or where it is the main module.
    let is_run = has(&["__main__"])
        || text.lines().any(|line| line.starts_with("for ") || line.starts_with("trainer."));
    Ok(has(&["import torch", "from torch", "from transformers", "import lightning", "from trl"])
        && has(&[".backward(", "Trainer(", ".fit("])
        && is_run)
}

/// Writes the configuration and the job, each where it is not there yet.
pub fn write(root: &Path, found: &Found) -> io::Result<[Written; 2]> {
    Ok([new(root, FILE_NAME, CONFIGURATION)?, new(root, JOB, &job(found))?])
}

fn new(root: &Path, name: &str, text: &str) -> io::Result<Written> {
    let path = root.join(name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::File::create_new(&path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| Written::New(name.into())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Written::Left(name.into())),
        Err(error) => Err(error),
    }
}

const CONFIGURATION: &str = concat!(
    "# Scenarios that are newer than this are named and not run, until you raise it.\n",
    "catalogue = \"",
    env!("CARGO_PKG_VERSION_MAJOR"),
    ".",
    env!("CARGO_PKG_VERSION_MINOR"),
    "\"\n\n",
    "# A known failure is waived with a reason and a last day:\n",
    "# [[waive]]\n",
    "# invariant = \"loop/schedule\"\n",
    "# reason = \"the schedule ends early until release 3\"\n",
    "# until = 2027-06-30\n",
);

fn job(found: &Found) -> String {
    let install =
        found.install.map(|how| format!("      - run: python -m pip install {how}\n")).unwrap_or_default();
    let named = found.scripts.iter().take(SCRIPTS_MOST).map(|it| it.display().to_string());
    let mut scripts: Vec<String> = named.collect();
    if scripts.is_empty() {
        scripts.push("train.py".to_owned());
    }
    let steps = scripts.iter().enumerate().map(|(at, script)| {
        format!(
            "      - uses: OWNER/traintrue/ci/action@REF\n        with:\n          \
             run: record -- python {script}\n          report: traintrue-report-{}\n",
            at + 1
        )
    });
    format!(
        "# Whether each script does what it says. Add arguments that make it short: a few dozen updates are enough.\n\
         # OWNER and REF: the repository of traintrue, and its branch, tag or commit.\n\
         name: traintrue\n\n\
         on: [push, pull_request]\n\n\
         permissions:\n  contents: read\n\n\
         jobs:\n  traintrue:\n    runs-on: ubuntu-latest\n    steps:\n      \
         - uses: actions/checkout@v4\n      \
         - uses: actions/setup-python@v5\n        with:\n          python-version: \"3.12\"\n{install}{}",
        steps.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::config::Config;

    const LOOP: &str = "import torch\nfor batch in loader:\n    loss.backward()\n";

    fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[rstest]
    #[case::a_loop("train.py", LOOP, true)]
    #[case::a_trainer(
        "src/run.py",
        "from transformers import Trainer\ntrainer = Trainer(m)\ntrainer.train()\n",
        true
    )]
    #[case::a_main_module(
        "main.py",
        "import torch\ndef f():\n    loss.backward()\nif __name__ == '__main__':\n    f()\n",
        true
    )]
    #[case::a_module("layers.py", "import torch\ndef f():\n    loss.backward()\n", false)]
    #[case::without_torch("fit.py", "for x in y:\n    model.fit(x)\n", false)]
    #[case::a_test("test_train.py", LOOP, false)]
    #[case::another_project("env/lib/python3/site-packages/train.py", LOOP, false)]
    #[case::a_hidden_folder(".cache/train.py", LOOP, false)]
    fn a_script_that_trains_is_found(#[case] name: &str, #[case] text: &str, #[case] expected: bool) {
        let root = repository(&[(name, text)]);
        let found = find(root.path()).unwrap().scripts;
        assert_eq!(found, if expected { vec![PathBuf::from(name)] } else { Vec::new() });
    }

    #[test]
    fn a_virtual_environment_is_not_entered() {
        let root = repository(&[("mine/pyvenv.cfg", ""), ("mine/bin/train.py", LOOP)]);
        assert_eq!(find(root.path()).unwrap(), Found::default());
    }

    #[test]
    fn what_is_written_can_be_read_and_names_what_was_found() {
        let root = repository(&[("train.py", LOOP), ("a/b.py", LOOP), ("requirements.txt", "torch")]);
        let found = find(root.path()).unwrap();
        assert_eq!(write(root.path(), &found).unwrap(), [FILE_NAME, JOB].map(|it| Written::New(it.into())));
        Config::find(Some(&root.path().join(FILE_NAME))).unwrap();
        insta::assert_snapshot!(fs::read_to_string(root.path().join(JOB)).unwrap());
    }

    #[test]
    fn a_file_that_is_there_is_left() {
        let root = repository(&[(FILE_NAME, "mine"), (JOB, "mine")]);
        let left = [FILE_NAME, JOB].map(|it| Written::Left(it.into()));
        assert_eq!(write(root.path(), &Found::default()).unwrap(), left);
        assert_eq!(fs::read_to_string(root.path().join(JOB)).unwrap(), "mine");
    }
}
