//! Reads a plan and refuses one that no trainer could follow: the message names the field, what stands there and what may.

use std::fmt::Display;

use super::{Adapters, Data, Optimizer, Padding, Plan, Probe, SCHEMA, Tokens, Train};

/// Counts above this are refused: the products of a few of them must stay exact.
pub const COUNT_MOST: u64 = 1 << 31;

/// The linears that an adapter may stand on.
pub(super) const ADAPTER_TARGETS: [&str; 6] = ["q", "k", "v", "o", "up", "down"];

/// A plan that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PlanError {
    #[error("plan: {field}: {source}")]
    Json { field: String, source: serde_json::Error },
    #[error("plan: {field}: found {found}, expected {expected}")]
    Field { field: String, found: String, expected: String },
}

pub(super) type Checked = Result<(), PlanError>;

impl Plan {
    /// Parses a plan from JSON and checks it.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let deserializer = &mut serde_json::Deserializer::from_str(text);
        let plan: Self = serde_path_to_error::deserialize(&mut *deserializer).map_err(|error| {
            PlanError::Json { field: error.path().to_string(), source: error.into_inner() }
        })?;
        deserializer.end().map_err(|source| PlanError::Json { field: ".".into(), source })?;
        plan.check()?;
        Ok(plan)
    }

    /// Checks every value that its type lets through.
    pub fn check(&self) -> Checked {
        expect("schema", self.schema, self.schema == SCHEMA, &SCHEMA.to_string())?;
        self.data.check()?;
        self.train.check()?;
        for (field, every) in [
            ("evaluate_every", self.evaluate_every),
            ("save_every", self.save_every),
            ("state_every", self.state_every),
        ] {
            count(field, every.unwrap_or(1))?;
        }
        let folders = [
            ("save_to", self.save_to.as_ref()),
            ("start.from", self.start.as_ref().map(|start| &start.from)),
            ("stop.save", self.stop.as_ref().and_then(|stop| stop.save.as_ref())),
        ];
        for (field, folder) in folders {
            expect(field, "\"\"", folder.is_none_or(|it| !it.as_os_str().is_empty()), "a folder, or null")?;
        }
        if self.save_every.is_some() {
            expect("save_to", "null", self.save_to.is_some(), "the folder that save_every saves to")?;
        }
        if self.evaluate_every.is_some() {
            let supervised = self.data.evaluation.iter().any(|sample| sample.len() > 1);
            let expected = "a sample of at least two tokens, for evaluate_every to take the loss of";
            expect("data.evaluation", "none", supervised, expected)?;
        }
        if let Some(memory) = &self.memory {
            count("memory.bytes", memory.bytes.min(COUNT_MOST))?;
            count("memory.recover_after", memory.recover_after.unwrap_or(1))?;
            expect(
                "save_to",
                "null",
                self.save_to.is_some(),
                "the folder that memory saves to when it stops",
            )?;
        }
        if let Some(stop) = &self.stop {
            let expected = format!("less than data.epochs, {}", self.data.epochs);
            expect("stop.epoch", stop.epoch, stop.epoch < self.data.epochs, &expected)?;
        }
        self.devices.iter().enumerate().try_for_each(|(at, choice)| choice.check(at))?;
        let used = self.cycles.is_empty() || !self.probes.is_empty();
        expect("probes", "[]", used, "at least one, for each model of cycles to be used for")?;
        self.probes.iter().try_for_each(|probe| probe.check(self.data.samples.len()))
    }
}

/// Groups of tensors, and the loss of the language model, which a head's would be taken for.
const TAKEN: [&str; 4] = ["adapter", "base", "frozen", "lm"];

impl Data {
    fn check(&self) -> Checked {
        self.tokens.check()?;
        count("data.batch", self.batch)?;
        count("data.epochs", self.epochs)?;
        self.padding.check("data.padding")?;
        expect(
            "data.max_length",
            self.max_length,
            (2..=COUNT_MOST).contains(&self.max_length),
            &format!("a length from 2 to {COUNT_MOST}"),
        )?;
        expect("data.samples", "[]", !self.samples.is_empty(), "at least one sample")?;
        self.ids("data.samples", &self.samples)?;
        self.ids("data.evaluation", &self.evaluation)
    }

    fn ids(&self, field: &str, samples: &[Vec<u32>]) -> Checked {
        for (sample, ids) in samples.iter().enumerate() {
            for (at, &id) in ids.iter().enumerate() {
                if id >= self.tokens.vocabulary || id == self.tokens.pad {
                    let expected = format!(
                        "an id below data.tokens.vocabulary, {}, that is not the pad, {}",
                        self.tokens.vocabulary, self.tokens.pad
                    );
                    return expect(&format!("{field}[{sample}][{at}]"), id, false, &expected);
                }
            }
        }
        Ok(())
    }
}

impl Tokens {
    fn check(&self) -> Checked {
        let below = format!("less than data.tokens.vocabulary, {}", self.vocabulary);
        for (field, id) in [("pad", self.pad), ("bos", self.bos), ("eos", self.eos)] {
            expect(&format!("data.tokens.{field}"), id, id < self.vocabulary, &below)?;
        }
        let distinct = self.pad != self.bos && self.pad != self.eos && self.bos != self.eos;
        let found = format!("pad {}, bos {}, eos {}", self.pad, self.bos, self.eos);
        expect("data.tokens", found, distinct, "three distinct ids")
    }
}

impl Padding {
    fn check(&self, field: &str) -> Checked {
        count(&format!("{field}.multiple_of"), self.multiple_of)
    }
}

impl Train {
    fn check(&self) -> Checked {
        count("train.accumulation", self.accumulation)?;
        self.optimizer.check()?;
        if let Some(clip) = self.clip {
            expect("train.clip", clip, clip.is_finite() && clip > 0.0, "a number above 0, or null")?;
        }
        let updates = self.schedule.updates.unwrap_or(1);
        count("train.schedule.updates", updates)?;
        let warmup = self.schedule.warmup;
        expect("train.schedule.warmup", warmup, warmup <= COUNT_MOST, &format!("at most {COUNT_MOST}"))?;
        expect(
            "train.dropout",
            self.dropout,
            (0.0..1.0).contains(&self.dropout),
            "a number from 0 to below 1",
        )?;
        if let Some(adapters) = &self.adapters {
            adapters.check()?;
        }
        self.heads.iter().enumerate().try_for_each(|(at, name)| {
            let field = format!("train.heads[{at}]");
            let is_word =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
            expect(&field, format!("{name:?}"), is_word, "a name of letters, digits, - and _")?;
            let others = format!("another name than {}", TAKEN.join(", "));
            expect(&field, format!("{name:?}"), !TAKEN.contains(&name.as_str()), &others)?;
            let is_new = !self.heads[..at].contains(name);
            expect(&field, format!("{name:?}"), is_new, "a name that no head before it has")
        })?;
        count("train.world", self.world)?;
        let below = format!("less than train.world, {}", self.world);
        expect("train.rank", self.rank, self.rank < self.world, &below)
    }
}

impl Optimizer {
    fn check(&self) -> Checked {
        expect("train.optimizer.name", &self.name, self.name == "adamw", "adamw")?;
        let above = |value: f64| value.is_finite() && value > 0.0;
        expect("train.optimizer.lr", self.lr, above(self.lr), "a number above 0")?;
        expect("train.optimizer.eps", self.eps, above(self.eps), "a number above 0")?;
        for (at, beta) in self.betas.into_iter().enumerate() {
            let field = format!("train.optimizer.betas[{at}]");
            expect(&field, beta, (0.0..1.0).contains(&beta), "a number from 0 to below 1")?;
        }
        let decay = self.decay;
        expect("train.optimizer.decay", decay, decay.is_finite() && decay >= 0.0, "a number of at least 0")
    }
}

impl Adapters {
    fn check(&self) -> Checked {
        count("train.adapters.r", self.r)?;
        let alpha = self.alpha;
        expect("train.adapters.alpha", alpha, alpha.is_finite() && alpha > 0.0, "a number above 0")?;
        expect("train.adapters.targets", "[]", !self.targets.is_empty(), "at least one linear")?;
        let known = format!("one of {}", ADAPTER_TARGETS.join(", "));
        self.targets.iter().enumerate().try_for_each(|(at, target)| {
            let field = format!("train.adapters.targets[{at}]");
            expect(&field, target, ADAPTER_TARGETS.contains(&target.as_str()), &known)
        })
    }
}

impl Probe {
    fn check(&self, samples: usize) -> Checked {
        let field = format!("probes.{}", self.name);
        expect(&format!("{field}.samples"), "[]", !self.samples.is_empty(), "at least one sample")?;
        let below = format!("an id below the number of data.samples, {samples}");
        for &id in &self.samples {
            expect(&format!("{field}.samples"), id, id < samples as u64, &below)?;
        }
        self.padding.iter().try_for_each(|padding| padding.check(&format!("{field}.padding")))
    }
}

pub(super) fn count(field: &str, found: u64) -> Checked {
    expect(field, found, (1..=COUNT_MOST).contains(&found), &format!("a count from 1 to {COUNT_MOST}"))
}

pub(super) fn expect(field: &str, found: impl Display, holds: bool, expected: &str) -> Checked {
    if holds {
        return Ok(());
    }
    Err(PlanError::Field { field: field.to_owned(), found: found.to_string(), expected: expected.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::example;
    use rstest::rstest;

    #[rstest]
    #[case("/data/batch", "0", "plan: data.batch: found 0, expected a count from 1 to 2147483648")]
    #[case(
        "/data/batch",
        "-1",
        "plan: data.batch: invalid value: integer `-1`, expected u64 at line 1 column "
    )]
    #[case(
        "/data/epochs",
        "1e300",
        "plan: data.epochs: invalid type: floating point `1e+300`, expected u64 at line 1 column "
    )]
    #[case(
        "/data/epochs",
        "4294967296",
        "plan: data.epochs: found 4294967296, expected a count from 1 to 2147483648"
    )]
    #[case("/data/max_length", "1", "plan: data.max_length: found 1, expected a length from 2 to ")]
    #[case("/data/samples", "[]", "plan: data.samples: found [], expected at least one sample")]
    #[case(
        "/data/samples/1/2",
        "32",
        "plan: data.samples[1][2]: found 32, expected an id below data.tokens.vocabulary, 32, that is not the pad, 3"
    )]
    #[case("/data/samples/1/2", "3", "plan: data.samples[1][2]: found 3, expected an id below")]
    #[case(
        "/data/tokens/pad",
        "2",
        "plan: data.tokens: found pad 2, bos 1, eos 2, expected three distinct ids"
    )]
    #[case(
        "/data/tokens/eos",
        "99",
        "plan: data.tokens.eos: found 99, expected less than data.tokens.vocabulary, 32"
    )]
    #[case("/data/padding/multiple_of", "0", "plan: data.padding.multiple_of: found 0, expected a count")]
    #[case(
        "/data/padding/side",
        "\"middle\"",
        "plan: data.padding.side: unknown variant `middle`, expected `left` or `right`"
    )]
    #[case("/train/accumulation", "0", "plan: train.accumulation: found 0, expected a count")]
    #[case("/train/optimizer/lr", "0", "plan: train.optimizer.lr: found 0, expected a number above 0")]
    #[case(
        "/train/optimizer/lr",
        "\"nan\"",
        "plan: train.optimizer.lr: invalid type: string \"nan\", expected f64"
    )]
    #[case(
        "/train/optimizer/betas/1",
        "1",
        "plan: train.optimizer.betas[1]: found 1, expected a number from 0 to below 1"
    )]
    #[case(
        "/train/optimizer/decay",
        "-0.1",
        "plan: train.optimizer.decay: found -0.1, expected a number of at least 0"
    )]
    #[case("/train/clip", "-1", "plan: train.clip: found -1, expected a number above 0, or null")]
    #[case("/train/dropout", "1", "plan: train.dropout: found 1, expected a number from 0 to below 1")]
    #[case(
        "/train/adapters/targets/0",
        "\"w\"",
        "plan: train.adapters.targets[0]: found w, expected one of q, k, v, o, up, down"
    )]
    #[case("/train/adapters/r", "0", "plan: train.adapters.r: found 0, expected a count")]
    #[case("/train/rank", "1", "plan: train.rank: found 1, expected less than train.world, 1")]
    #[case(
        "/probes/0/samples/0",
        "3",
        "plan: probes.rows:all.samples: found 3, expected an id below the number of data.samples, 3"
    )]
    #[case(
        "/devices",
        "[{\"device\":\"\"}]",
        "plan: devices[0].device: found \"\", expected the name of a device, or null"
    )]
    #[case(
        "/devices",
        "[{},{\"budget_bytes\":0}]",
        "plan: devices[1].budget_bytes: found 0, expected at least 1"
    )]
    #[case(
        "/train/heads/0",
        "\"\"",
        "plan: train.heads[0]: found \"\", expected a name of letters, digits, - and _"
    )]
    #[case(
        "/train/heads/0",
        "\"../x\"",
        "plan: train.heads[0]: found \"../x\", expected a name of letters, digits, - and _"
    )]
    #[case(
        "/train/heads/0",
        "\"base\"",
        "plan: train.heads[0]: found \"base\", expected another name than adapter, base, frozen, lm"
    )]
    #[case("/save_to", "\"\"", "plan: save_to: found \"\", expected a folder, or null")]
    #[case("/stop/epoch", "2", "plan: stop.epoch: found 2, expected less than data.epochs, 2")]
    #[case("/save_every", "4", "plan: save_to: found null, expected the folder that save_every saves to")]
    #[case(
        "/data/evaluation",
        "[[1]]",
        "plan: data.evaluation: found none, expected a sample of at least two tokens"
    )]
    #[case("/schema", "2", "plan: schema: found 2, expected 1")]
    fn a_plan_that_cannot_be_followed_is_one_clear_error(
        #[case] place: &str,
        #[case] value: &str,
        #[case] message: &str,
    ) {
        let mut plan = serde_json::to_value(example()).unwrap();
        *plan.pointer_mut(place).unwrap() = serde_json::from_str(value).unwrap();
        let error = Plan::parse(&plan.to_string()).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }

    #[rstest]
    #[case("", "plan: .: EOF while parsing a value at line 1 column 0")]
    #[case("{\"sead\":1}", "plan: sead: unknown field `sead`, expected one of `schema`")]
    #[case("{\"seed\":1e999}", "plan: seed: number out of range at line 1 column 13")]
    #[case("{\"seed\":NaN}", "plan: seed: expected value at line 1 column 9")]
    fn text_that_is_no_plan_is_one_clear_error(#[case] text: &str, #[case] message: &str) {
        let error = Plan::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }

    #[test]
    fn models_that_are_loaded_are_used_for_something() {
        let mut plan = example();
        plan.cycles = vec![plan.model.clone()];
        assert!(plan.check().is_ok());
        plan.probes.clear();
        let error = plan.check().unwrap_err().to_string();
        assert!(error.starts_with("plan: probes: found [], expected at least one, for each"), "{error}");
    }

    #[test]
    fn a_plan_survives_json() {
        let text = serde_json::to_string(&example()).unwrap();
        assert_eq!(Plan::parse(&text).unwrap(), example());
    }
}
