//! How `check` and `gate` read logs of other libraries.

use clap::Args;
use traintrue_logs::{Columns, Layout, Pattern};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "How a log is read that is not named as its library does")]
pub struct LayoutArgs {
    /// Columns of a CSV, of JSON lines, of TensorBoard, MLflow or wandb, by their names there: step, epoch, loss, lr,
    /// grad_norm, eval_loss, and memory: rss, heap, gpu, gpu_reserved. For example step=global_step,lr=train/lr.
    #[arg(long, value_name = "COLUMN=NAME,...", conflicts_with = "pattern")]
    columns: Option<Columns>,
    /// A regular expression for lines of standard output, with groups named as the columns are. For example
    /// 'step (?P<step>\d+).*loss (?P<loss>\S+)'.
    #[arg(long, value_name = "REGEX")]
    pattern: Option<Pattern>,
}

impl LayoutArgs {
    pub fn layout(&self) -> Layout {
        Layout { columns: self.columns.clone().unwrap_or_default(), pattern: self.pattern.clone() }
    }
}
