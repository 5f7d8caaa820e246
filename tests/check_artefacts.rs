//! What a run has left behind, checked by the real binary: the files are written here, healthy but for one change.

use std::fs;
use std::path::Path;

use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;
use traintrue_judge::finding::Finding;
use traintrue_judge::verdict::{RunReport, Verdict};
use traintrue_protocol::plan::{Adapters, Plan, Stop};

use crate::binary::{Ran, traintrue};
use crate::in_process::Bench;
use crate::inputs::PLAN;

const STATE: &str = "trainer_state.json";
const CONFIG: &str = "adapter_config.json";
const ADAPTER: &str = "adapter_model.safetensors";
const B: &str = "base_model.model.layers.0.q_proj.lora_B.weight";

/// The tensors of an adapter: name, shape, and the one value of every element.
type Tensors = Vec<(String, Vec<usize>, f32)>;

/// The bytes of a safetensors file, as the format's page says: the length of the header, the header, the values.
fn safetensors(tensors: &Tensors) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape, value) in tensors {
        let begin = data.len();
        data.extend(value.to_le_bytes().repeat(shape.iter().product()));
        header.insert(
            name.clone(),
            json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]}),
        );
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), &data].concat()
}

/// Two adapted modules and a head.
fn tensors(value: f32) -> Tensors {
    let mut tensors = vec![("base_model.model.score.weight".to_owned(), vec![2, 8], value)];
    for module in ["q_proj", "v_proj"] {
        let name = |half| format!("base_model.model.layers.0.{module}.lora_{half}.weight");
        tensors.push((name("A"), vec![4, 8], value));
        tensors.push((name("B"), vec![8, 4], value));
    }
    tensors
}

fn config() -> Value {
    json!({"peft_type": "LORA", "task_type": "SEQ_CLS", "r": 4, "lora_alpha": 16, "use_rslora": true,
        "target_modules": ["q_proj", "v_proj"], "modules_to_save": ["classifier", "score"], "bias": "none"})
}

/// A log of `steps` updates of 6, 3 an epoch: warm-up over 2, then straight down from 1e-3.
fn state(steps: u64) -> Value {
    let entry = |step: u64| {
        let taken = (step - 1) as f64;
        let lr = 1e-3 * if taken < 2.0 { taken / 2.0 } else { (6.0 - taken) / 4.0 };
        json!({"step": step, "epoch": step as f64 / 3.0, "learning_rate": lr, "loss": 2.5, "grad_norm": 1.5})
    };
    json!({"global_step": steps, "epoch": steps as f64 / 3.0, "max_steps": 6, "num_train_epochs": 2,
        "logging_steps": 1, "best_metric": null, "log_history": (1..=steps).map(entry).collect::<Vec<_>>()})
}

const RATES: [&str; 6] = ["--lr", "1e-3", "--schedule", "linear", "--warmup", "2"];

/// A run's output folder: `checkpoint-3` and `checkpoint-6`, as the transformers library leaves them.
struct Output(TempDir);

impl Output {
    fn healthy() -> Self {
        let output = Self(tempfile::tempdir().unwrap());
        for steps in [3, 6] {
            let folder = output.0.path().join(format!("checkpoint-{steps}"));
            fs::create_dir(&folder).unwrap();
            output.write(steps, STATE, &serde_json::to_vec_pretty(&state(steps)).unwrap());
            output.write(steps, CONFIG, config().to_string().as_bytes());
            output.write(steps, ADAPTER, &safetensors(&tensors(steps as f32)));
            output.write(steps, "optimizer.pt", b"a pickle");
            output.write(steps, "training_args.bin", b"another");
        }
        output
    }

    fn write(&self, steps: u64, name: &str, bytes: &[u8]) {
        fs::write(self.path(steps, name), bytes).unwrap();
    }

    fn path(&self, steps: u64, name: &str) -> String {
        let folder = self.0.path().join(format!("checkpoint-{steps}"));
        let path = if name.is_empty() { folder } else { folder.join(name) };
        path.to_str().unwrap().to_owned()
    }

    /// Changes the later checkpoint's state.
    fn state(&self, change: impl FnOnce(&mut Value)) {
        let mut state = state(6);
        change(&mut state);
        self.write(6, STATE, serde_json::to_string_pretty(&state).unwrap().as_bytes());
    }

    /// Changes its adapter.
    fn adapter(&self, change: impl FnOnce(&mut Value, &mut Tensors)) {
        let (mut config, mut tensors) = (config(), tensors(6.0));
        change(&mut config, &mut tensors);
        self.write(6, CONFIG, config.to_string().as_bytes());
        self.write(6, ADAPTER, &safetensors(&tensors));
    }

    fn check(&self, more: &[&str]) -> Ran {
        traintrue(&[&["check", &self.path(6, "")], more].concat())
    }
}

/// The one finding of a report as a document.
fn finding(ran: Ran) -> Finding {
    let report: RunReport = ran.with_exit(1).document();
    let [outcome] = &report.outcomes[..] else { panic!("{report:#?}") };
    let [finding] = &outcome.findings[..] else { panic!("{outcome:#?}") };
    finding.clone()
}

#[test]
fn a_healthy_checkpoint_is_held_with_what_it_rests_on_and_what_was_not_opened() {
    let output = Output::healthy();
    let counts = ["--micro-batches", "12", "--accumulation", "4", "--epochs", "2", "--format", "json"];
    let ran = output.check(&[&RATES[..], &counts].concat()).with_exit(0);
    let report: RunReport = ran.document();
    let outcome = &report.outcomes[0];
    assert_eq!((outcome.verdict, report.summary.held), (Verdict::Held, 1));
    assert_eq!((outcome.compared["schedule/closed-form"], outcome.compared["finite/everywhere"]), (6, 6));
    for family in ["log", "epochs", "adapter-shapes", "adapter-learns", "modules-to-save", "finite-tensors"] {
        assert!(outcome.compared[&format!("artefact/{family}")] > 0, "{family}");
    }
    let told = outcome.notes.join("\n");
    assert!(
        told.contains("not judged: optimizer.pt, training_args.bin: loading a pickle runs code"),
        "{told}"
    );
    assert!(told.contains("lora_alpha / sqrt(r) (rsLoRA) = 8.00000"), "{told}");
}

#[test]
fn two_checkpoints_of_one_run_are_held_against_each_other() {
    let output = Output::healthy();
    let earlier = output.path(3, "");
    let report: RunReport =
        output.check(&["--against", &earlier, "--format", "json"]).with_exit(0).document();
    let compared = &report.outcomes[0].compared;
    assert_eq!((compared["artefact/moves"], compared["artefact/continues"]), (5, 3));

    output.adapter(|_, tensors| tensors[0].2 = 3.0);
    let found = finding(output.check(&["--against", &earlier, "--format", "json"]));
    assert_eq!(
        (found.invariant.as_str(), found.at.name.as_deref()),
        ("artefact/moves", Some("base_model.model.score.weight"))
    );
}

#[rstest]
#[case::rate(|it: &Output| it.state(|it| it["log_history"][3]["learning_rate"] = json!(0.001)), "schedule/closed-form", "lr 0.000750 at update 4")]
#[case::total(|it: &Output| it.state(|it| {
    (it["max_steps"], it["num_train_epochs"]) = (json!(24), json!(8));
}), "schedule/closed-form", "lr")]
#[case::backwards(|it: &Output| it.state(|it| it["log_history"].as_array_mut().unwrap().swap(1, 2)), "artefact/log", "step 3 or later")]
#[case::best(|it: &Output| it.state(|it| it["best_metric"] = json!(0.5)), "artefact/best", "best_metric 0.5 among")]
#[case::epoch(|it: &Output| it.state(|it| it["log_history"][5]["epoch"] = json!(0.0)), "artefact/log", "epoch")]
#[case::zero(|it: &Output| it.adapter(|_, it| it.iter_mut().filter(|it| it.0 == B).for_each(|it| it.2 = 0.0)), "artefact/adapter-learns", "a value other than 0")]
#[case::lost_head(|it: &Output| it.adapter(|_, it| { it.remove(0); }), "artefact/modules-to-save", "the head's tensors")]
#[case::rank(|it: &Output| it.adapter(|it, _| it["r"] = json!(8)), "artefact/adapter-shapes", "[r, in] with r 8")]
#[case::not_finite(|it: &Output| it.adapter(|_, it| it[1].2 = f32::NAN), "artefact/finite-tensors", "finite values")]
#[case::alpha(|it: &Output| it.adapter(|it, _| { it.as_object_mut().unwrap().remove("lora_alpha"); }), "artefact/adapter-scale", "a finite number")]
fn a_broken_checkpoint_is_found(
    #[case] break_it: fn(&Output),
    #[case] invariant: &str,
    #[case] expected: &str,
) {
    let output = Output::healthy();
    break_it(&output);
    let found = finding(output.check(&[&RATES[..], &["--format", "json"]].concat()));
    assert_eq!(found.invariant, invariant, "{found:#?}");
    assert!(found.expected.starts_with(expected), "{found:#?}");
    assert!(found.reproduce.starts_with("traintrue check "), "{found:#?}");
}

#[test]
fn pythons_nan_is_found_on_its_line() {
    let output = Output::healthy();
    let text = serde_json::to_string_pretty(&state(6)).unwrap().replacen("\"loss\": 2.5", "\"loss\": NaN", 1);
    output.write(6, STATE, text.as_bytes());
    let found = finding(output.check(&["--format", "json"]));
    assert_eq!((found.invariant.as_str(), found.actual.as_str()), ("artefact/log", "loss NaN"));
    assert!(text.lines().nth(found.line as usize - 1).unwrap().contains('{'));
    let text = output.check(&[]).with_exit(1).stdout;
    assert!(text.contains(&format!("log at step 1, line {} of ", found.line)), "{text}");
}

#[test]
fn a_finding_names_tensor_and_file_in_every_form_of_the_report() {
    let output = Output::healthy();
    output.adapter(|_, it| it.iter_mut().filter(|it| it.0 == B).for_each(|it| it.2 = 0.0));
    let text = output.check(&[]).with_exit(1).stdout;
    assert!(text.contains(&format!("tensor {B}, {}", output.path(6, ADAPTER))), "{text}");
    let junit = output.check(&["--format", "junit"]).with_exit(1).stdout;
    assert!(junit.contains("artefact/adapter-learns in checkpoint-6") && junit.contains(B), "{junit}");
}

#[test]
fn shards_are_judged_by_their_index() {
    let folder = tempfile::tempdir().unwrap();
    let shard = |name: &str, tensor: &str, value| {
        let bytes = safetensors(&vec![(tensor.to_owned(), vec![2, 2], value)]);
        fs::write(folder.path().join(name), bytes).unwrap();
    };
    let index = json!({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}});
    fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let check = || traintrue(&["check", folder.path().to_str().unwrap(), "--format", "json"]);
    shard("model-1.safetensors", "a", 1.0);
    assert_eq!(finding(check()).invariant, "artefact/shards");
    shard("model-2.safetensors", "b", 1.0);
    check().with_exit(0);
    shard("model-2.safetensors", "b", 0.0);
    assert_eq!(finding(check()).invariant, "artefact/zero-tensors");
}

#[test]
fn weights_that_are_a_pickle_are_not_judged() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pytorch_model.bin"), "a pickle").unwrap();
    let ran = traintrue(&["check", folder.path().to_str().unwrap()]).with_exit(3);
    assert!(
        ran.stdout.contains("not judged: pytorch_model.bin: loading a pickle runs code"),
        "{}",
        ran.stdout
    );
}

#[rstest]
#[case::empty(|_: &Path| {}, "", "an empty folder; looked for trainer_state.json")]
#[case::output(|it: &Path| fs::create_dir(it.join("checkpoint-5")).unwrap(), "", "a folder with checkpoint-5: name one of them")]
#[case::pickle(|it: &Path| fs::write(it.join("optimizer.pt"), "x").unwrap(), "optimizer.pt", "a pickle; loading it runs code")]
#[case::cut(|it: &Path| {
    let bytes = safetensors(&tensors(1.0));
    fs::write(it.join("model.safetensors"), &bytes[..bytes.len() - 1]).unwrap();
}, "model.safetensors", "not a safetensors file: it is cut short")]
#[case::huge(|it: &Path| fs::write(it.join("model.safetensors"), [0xff; 16]).unwrap(), "", "not a safetensors file: its header would have")]
#[case::not_utf8(|it: &Path| fs::write(it.join(STATE), [0xff, 0xfe]).unwrap(), "", "not UTF-8")]
#[case::no_state(|it: &Path| fs::write(it.join(STATE), "{}").unwrap(), "", "missing field `global_step`")]
#[case::no_adapter(|it: &Path| fs::write(it.join(CONFIG), config().to_string()).unwrap(), "", "adapter_model.safetensors is missing beside it")]
#[case::text(|it: &Path| fs::write(it.join("notes.txt"), "words").unwrap(), "notes.txt", "a file of an unknown kind; looked for")]
fn what_cannot_be_judged_is_one_clear_error(
    #[case] make: fn(&Path),
    #[case] path: &str,
    #[case] message: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let path = folder.path().join(path);
    let ran = traintrue(&["check", path.to_str().unwrap()]).with_exit(2);
    assert!(ran.stderr.contains(message), "{}", ran.stderr);
    assert!(ran.stderr.contains(folder.path().to_str().unwrap()), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
}

#[rstest]
#[case::as_seam(&["--against", "EARLIER", "--as", "seam"], "--as is of traces")]
#[case::swapped(&["--against", "LATER"], "name the earlier checkpoint")]
#[case::other_kind(&["--against", "EARLIER/trainer_state.json"], "holds an adapter, and")]
#[case::rate(&["--lr", "0", "--schedule", "linear"], "train.optimizer.lr")]
#[case::lr_alone(&["--lr", "1e-3"], "--schedule")]
#[case::epochs(&["--epochs", "0"], "expected a number above 0")]
fn a_request_that_does_not_fit_is_refused(#[case] more: &[&str], #[case] message: &str) {
    let output = Output::healthy();
    let named = |it: &&str| it.replace("EARLIER", &output.path(3, "")).replace("LATER", &output.path(6, ""));
    let more: Vec<String> = more.iter().map(named).collect();
    let ran = output.check(&more.iter().map(String::as_str).collect::<Vec<_>>()).with_exit(2);
    assert!(ran.stderr.contains(message), "{}", ran.stderr);
}

#[test]
fn an_adapter_that_the_reference_trainer_saves_holds() {
    let bench = Bench::new();
    let mut plan = Plan::parse(PLAN).unwrap();
    plan.train.adapters =
        Some(Adapters { r: 2, alpha: 4.0, rs: true, targets: vec!["q".into(), "v".into()] });
    plan.train.heads = vec!["projection".into()];
    let saved = |name: &str, micro_batches: u64| {
        let root = bench.path(name);
        let plan =
            Plan { stop: Some(Stop { epoch: 1, micro_batches, save: Some(root.clone()) }), ..plan.clone() };
        bench.train(&format!("{name}.jsonl"), &plan);
        let folder = fs::read_dir(root).unwrap().next().unwrap().unwrap().path();
        folder.to_str().unwrap().to_owned()
    };
    let (earlier, later) = (saved("earlier", 1), saved("later", 3));
    let ran = traintrue(&["check", &later, "--against", &earlier, "--format", "json"]).with_exit(0);
    let compared = &ran.document::<RunReport>().outcomes[0].compared;
    for rule in ["adapter-shapes", "adapter-targets", "adapter-learns", "modules-to-save", "moves"] {
        assert!(compared[&format!("artefact/{rule}")] > 0, "{rule}: {compared:?}");
    }
}
