//! Small inputs that tests begin from: a plan, a scenario of one's own, a trainer in a few lines of shell.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use traintrue::scenario::{PlannedFault, Scenario};

/// A plan as a person may write it.
pub const PLAN: &str = r#"{
  "schema": 1, "scenario": "by-hand", "run": "once", "seed": 7,
  "data": {
    "samples": [[1, 10, 11, 2], [1, 12, 2], [1, 13, 14, 15, 2], [1, 16, 2], [1, 17, 18, 2]],
    "tokens": {"pad": 3, "bos": 1, "eos": 2, "vocabulary": 32},
    "batch": 2, "epochs": 2, "shuffle": true,
    "padding": {"policy": "longest", "side": "right", "multiple_of": 1},
    "max_length": 16, "drop_last": false
  },
  "train": {
    "accumulation": 2,
    "optimizer": {"name": "adamw", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "decay": 0.01},
    "schedule": {"name": "linear", "warmup": 1},
    "dropout": 0.1
  },
  "model": {"size": "tiny"}
}
"#;

/// The shipped `determinism` scenario under another id, in a folder of its own, changed as asked.
pub fn own_scenario(id: &str, change: impl Fn(String) -> String) -> TempDir {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/determinism.toml");
    let text = fs::read_to_string(shipped).unwrap();
    let faults = Scenario::parse(Path::new(shipped), &text).unwrap().faults;
    let renamed = |text: String, fault: &PlannedFault| text.replace(&fault.id, &format!("my-{}", fault.id));
    let text = faults.iter().fold(text, renamed).replace("id = \"determinism\"", &format!("id = \"{id}\""));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(format!("{id}.toml")), change(text)).unwrap();
    folder
}

/// A trainer that can do nothing but describe itself.
pub struct Scripted {
    /// What `--trainer` takes.
    pub command: String,
    _folder: TempDir,
}

/// A trainer without a capability that does `run` when it is told to run a plan.
pub fn scripted_trainer(run: &str) -> Scripted {
    let description = traintrue_protocol::contract::Description {
        trainer: "scripted 1".into(),
        capabilities: Vec::new(),
        ..traintrue_reference::describe()
    };
    let description = serde_json::to_string(&description).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trainer.sh");
    fs::write(&path, format!("case $1 in describe) echo '{description}';; run) {run};; esac\n")).unwrap();
    Scripted { command: format!("sh '{}'", path.display()), _folder: folder }
}

/// The command of the trainer in plain Python, with these bugs.
pub fn double(bugs: &str) -> String {
    let python = Command::new("python3").arg("--version").output();
    assert!(python.is_ok(), "python3 is not on the PATH: the protocol's test double is written in it");
    format!("python3 '{}/tests/doubles/broken_trainer.py' {bugs}", env!("CARGO_MANIFEST_DIR"))
}

/// The folder of the scenario that the double is made for, `two-parameters`.
pub fn scenarios_of_the_double() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doubles/scenarios").to_owned()
}

/// A repository whose trainer is the double with these bugs, with more in its traintrue.toml; and that file.
pub fn repository(bugs: &str, more: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traintrue.toml");
    let (trainer, scenarios) = (double(bugs), scenarios_of_the_double());
    let text = format!("scenarios = {scenarios:?}\n{more}\n[trainer]\ncommand = {trainer:?}\n");
    fs::write(&path, text).unwrap();
    (folder, path.display().to_string())
}
