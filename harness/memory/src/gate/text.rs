//! The gate's verdicts as text for a terminal and as Markdown for CI.

use std::fmt::Write as _;

use super::{Gate, Judged};
use crate::bytes::BytesPerStep;
use crate::markdown::plain;
use crate::slope::SlopeVerdict;

impl Gate {
    /// One block per lane: the verdict, the numbers, the reason.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        for judged in &self.series {
            let _ = writeln!(text, "{:10} {} {}", judged.word(), judged.file, judged.lane);
            let _ = writeln!(text, "           {}", judged.figures());
            let _ = writeln!(text, "           {}", judged.reason);
            if let Some(attribution) = &judged.attribution {
                let _ = writeln!(text, "           {attribution}");
            }
            if let Some(steps) = judged.further_steps {
                let _ = writeln!(text, "           about {steps} more steps would give a verdict");
            }
            if let Some(steps) = judged.steps_to_exhaustion {
                let _ = writeln!(text, "           at this slope the capacity is full in {steps} steps");
            }
        }
        let _ = writeln!(text, "{}", self.tally());
        text
    }

    /// A table with one row per lane, then one line for each lane that is not within its limit.
    pub fn markdown(&self) -> String {
        let mut text = format!("### Memory: {}\n\n", self.tally());
        text.push_str(
            "| verdict | run | lane | slope per step | accepted | limit | peak | accepted | limit |\n",
        );
        text.push_str("|---|---|---|---:|---:|---:|---:|---:|---:|\n");
        for judged in &self.series {
            let run = judged.run.as_ref().map_or_else(
                || judged.file.clone(),
                |run| format!("{} · {} on {}", run.scenario, run.run, run.device),
            );
            let accepted = judged.baseline;
            let cells = [
                judged.word().to_owned(),
                run,
                judged.lane.clone(),
                judged.amount(judged.slope_per_step),
                shown(accepted, |baseline| judged.amount(baseline.slope_bytes_per_step)),
                shown(judged.limit_per_step, |limit| judged.amount(limit)),
                judged.amount(judged.peak as f64),
                shown(accepted, |baseline| judged.amount(baseline.peak_bytes as f64)),
                shown(judged.limit_peak, |limit| judged.amount(limit as f64)),
            ];
            let _ = writeln!(text, "| {} |", cells.map(|cell| plain(&cell)).join(" | "));
        }
        for judged in self.series.iter().filter(|judged| judged.verdict != SlopeVerdict::Within) {
            let lane = if judged.lane.is_empty() { &judged.file } else { &judged.lane };
            let _ = write!(text, "\n- **{}** {}: {}", plain(lane), judged.word(), plain(&judged.reason));
            if let Some(attribution) = &judged.attribution {
                let _ = write!(text, ". {}", plain(attribution));
            }
        }
        text.push('\n');
        text
    }

    fn tally(&self) -> String {
        let count = |verdict| self.series.iter().filter(|judged| judged.verdict == verdict).count();
        let (within, exceeds) = (count(SlopeVerdict::Within), count(SlopeVerdict::Exceeds));
        format!("{within} within, {exceeds} exceed, {} not judged", count(SlopeVerdict::NotJudged))
    }
}

impl Judged {
    fn word(&self) -> &'static str {
        match self.verdict {
            SlopeVerdict::Within => "within",
            SlopeVerdict::Exceeds => "exceeds",
            SlopeVerdict::NotJudged => "not judged",
        }
    }

    /// An amount in the lane's unit.
    fn amount(&self, amount: f64) -> String {
        match self.unit {
            "bytes" => BytesPerStep(amount).to_string().trim_end_matches("/step").to_owned(),
            unit => format!("{} {unit}", (amount * 1000.0).round() / 1000.0),
        }
    }

    fn figures(&self) -> String {
        let mut figures = format!("{} per step", self.amount(self.slope_per_step));
        if let Some((low, high)) = self.low.zip(self.high) {
            let _ = write!(figures, " ({} to {})", self.amount(low), self.amount(high));
        }
        match self.limit_per_step {
            Some(limit) => {
                let _ = write!(figures, ", limit {}", self.amount(limit));
            }
            None => figures.push_str(", no limit"),
        }
        let _ = write!(figures, "; peak {}; {} steps", self.amount(self.peak as f64), self.steps);
        figures
    }
}

fn shown<T>(value: Option<T>, as_text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), as_text)
}
