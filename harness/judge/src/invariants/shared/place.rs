//! Where the training of a trace begins.

use std::fmt;

use traintrue_protocol::plan::{Plan, Restore};
use traintrue_protocol::trace::Event;
use traintrue_protocol::trace::event::{CheckpointEdge, Cursor};
use traintrue_protocol::vocabulary::Moment;

/// The place of a trace's first micro-batch, as far as the lines read so far give it.
///
/// A fresh run, or one that loads only weights, begins at the first micro-batch. A resumed run begins at the cursor of
/// its loaded state or, without one, of the checkpoint that it loaded.
pub(crate) struct Beginning {
    resumed: bool,
    cursor: Option<Cursor>,
}

impl Beginning {
    pub(crate) fn of(plan: &Plan) -> Self {
        let resumed = plan.start.as_ref().is_some_and(|start| start.what == Restore::Everything);
        let cursor = (!resumed).then_some(Cursor { epoch: 0, micro_batches: 0 });
        Self { resumed, cursor }
    }

    pub(crate) fn see(&mut self, event: &Event) {
        if !self.resumed {
            return;
        }
        match event {
            Event::Checkpoint(it) if it.edge == CheckpointEdge::Loaded => {
                self.cursor = Some(Cursor { epoch: it.epoch, micro_batches: it.micro_batches });
            }
            Event::State(it) if it.at == Moment::Loaded && it.cursor.is_some() => self.cursor = it.cursor,
            _ => {}
        }
    }

    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }
}

/// A micro-batch's place as findings show it.
pub(crate) struct Place {
    pub(crate) epoch: u64,
    pub(crate) index: u64,
}

impl From<Cursor> for Place {
    fn from(cursor: Cursor) -> Self {
        Self { epoch: cursor.epoch, index: cursor.micro_batches }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}, micro-batch {}", self.epoch, self.index)
    }
}

/// The first sample ids of a list, so that a finding stays on one line.
pub(crate) fn first_ids<'a>(ids: impl IntoIterator<Item = &'a u64>) -> String {
    const SHOWN: usize = 12;
    let mut ids = ids.into_iter();
    let shown: Vec<String> = ids.by_ref().take(SHOWN).map(u64::to_string).collect();
    format!("{}{}", shown.join(", "), if ids.next().is_some() { ", ..." } else { "" })
}

/// A number of micro-batches with the right plural.
pub(crate) fn micro_batches(count: u64) -> String {
    match count {
        1 => "1 micro-batch".to_owned(),
        many => format!("{many} micro-batches"),
    }
}
