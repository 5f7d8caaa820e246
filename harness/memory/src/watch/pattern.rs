//! Finds steps in a command's output, and keeps counting where the command's own counter restarts.

use std::str::FromStr;

use regex::bytes::Regex;

/// Longer lines are ignored: they are binary data without line ends.
const LINE_MOST_BYTES: usize = 16 << 10;

/// A regular expression for lines with a step. Its first group is the step's number.
#[derive(Clone, Debug)]
pub struct StepPattern(Regex);

/// An expression that cannot find steps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PatternError {
    #[error("{text:?} is not a regular expression: {problem}")]
    Syntax { text: String, problem: String },
    #[error("{text:?} has no group: expected one around the step's number, such as 'step (\\d+)'")]
    NoGroup { text: String },
}

impl FromStr for StepPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let syntax =
            |error: regex::Error| PatternError::Syntax { text: text.into(), problem: error.to_string() };
        match Regex::new(text).map_err(syntax)? {
            expression if expression.captures_len() < 2 => Err(PatternError::NoGroup { text: text.into() }),
            expression => Ok(Self(expression)),
        }
    }
}

impl StepPattern {
    fn find(&self, line: &[u8]) -> Option<u64> {
        let number = self.0.captures(line)?.get(1)?;
        std::str::from_utf8(number.as_bytes()).ok()?.parse().ok()
    }
}

/// Reads one stream of output for steps.
#[derive(Debug)]
pub struct StepFinder {
    pattern: StepPattern,
    counter: Counter,
    line: Vec<u8>,
}

impl StepFinder {
    /// A finder that has read nothing yet.
    pub fn new(pattern: StepPattern) -> Self {
        Self { pattern, counter: Counter::default(), line: Vec::new() }
    }

    /// Reads more bytes. Returns the last step whose line ended in them, if any. A carriage return also ends a line,
    /// for progress bars.
    pub fn read(&mut self, bytes: &[u8]) -> Option<u64> {
        let mut last = None;
        for part in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, ended) = match part.split_last() {
                Some((b'\n' | b'\r', text)) => (text, true),
                _ => (part, false),
            };
            // One byte beyond the limit is enough to know that the line is too long.
            let room = (LINE_MOST_BYTES + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                last = self.end_of_line().or(last);
            }
        }
        last
    }

    fn end_of_line(&mut self) -> Option<u64> {
        let step = (self.line.len() <= LINE_MOST_BYTES).then(|| self.pattern.find(&self.line)).flatten();
        self.line.clear();
        self.counter.count(step?)
    }
}

/// Keeps counting when a command's own number falls: it counts within each epoch, or repeats steps after a resume.
#[derive(Debug, Default)]
pub struct Counter {
    last: Option<Counted>,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    said: u64,
    step: u64,
}

impl Counter {
    /// The step for the command's number `said`. It rises with `said`, and by one when `said` falls. None if `said` is
    /// repeated.
    pub fn count(&mut self, said: u64) -> Option<u64> {
        let step = match self.last {
            None => said,
            Some(last) if said == last.said => return None,
            Some(last) if said > last.said => last.step.saturating_add(said - last.said),
            Some(last) => last.step.saturating_add(1),
        };
        self.last = Some(Counted { said, step });
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&["step 1 loss 0.5\nstep 2"], &[Some(1)])]
    #[case(&["step 1", "7 loss\n", "st", "ep 18\n"], &[None, Some(17), None, Some(18)])]
    #[case(&["\rstep 3: 30%|###\rstep 4: 40%|####\r"], &[Some(4)])]
    #[case(&["nothing\n\n\n"], &[None])]
    #[case(&["step 99999999999999999999999\nstep x\n"], &[None])]
    fn steps_are_found_in_lines_however_they_arrive(#[case] parts: &[&str], #[case] steps: &[Option<u64>]) {
        let mut finder = StepFinder::new(r"step (\w+)".parse().unwrap());
        let found: Vec<_> = parts.iter().map(|part| finder.read(part.as_bytes())).collect();
        assert_eq!(found, steps);
    }

    #[test]
    fn bytes_that_are_no_text_and_lines_without_end_are_passed_over() {
        let mut finder = StepFinder::new(r"step (\d+)".parse().unwrap());
        let endless = vec![b'x'; LINE_MOST_BYTES];
        assert_eq!(finder.read(&[&endless[..], b"step 1 ", &endless, b"step 2\n"].concat()), None);
        assert!(finder.line.capacity() < 3 * LINE_MOST_BYTES);
        assert_eq!(finder.read(b"\xff\xfe\x00step 3\xff\n"), Some(3));
    }

    #[rstest]
    #[case(&[1, 2, 3], &[1, 2, 3])]
    #[case(&[10, 20, 20, 30], &[10, 20, 30])]
    #[case(&[0, 1, 2, 0, 1, 2], &[0, 1, 2, 3, 4, 5])]
    #[case(&[100, 200, 150, 200, 300], &[100, 200, 201, 251, 351])]
    #[case(&[u64::MAX, 0, 5], &[u64::MAX, u64::MAX, u64::MAX])]
    fn a_counter_that_begins_anew_is_counted_on(#[case] said: &[u64], #[case] steps: &[u64]) {
        let mut counter = Counter::default();
        let counted: Vec<_> = said.iter().filter_map(|said| counter.count(*said)).collect();
        assert_eq!(counted, steps);
    }

    #[rstest]
    #[case("step (", "is not a regular expression")]
    #[case(r"step \d+", "has no group")]
    fn an_expression_that_finds_nothing_is_refused(#[case] text: &str, #[case] why: &str) {
        let error = text.parse::<StepPattern>().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
