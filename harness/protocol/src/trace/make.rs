//! Makes events easy to write: each kind is an [`Event`], and what a trainer cannot give is left to
//! `..Default::default()`.

use super::event::{
    Adapted, Checkpoint, End, Epoch, Evaluation, Event, Memory, MicroBatch, Oom, Operation, Probe, Run,
    State, Update,
};

macro_rules! events {
    ($($kind:ident),*) => {$(
        impl From<$kind> for Event {
            fn from(it: $kind) -> Self {
                Self::$kind(it.into())
            }
        }
    )*};
}

events!(
    Run, MicroBatch, Update, State, Probe, Operation, Memory, Epoch, Evaluation, Checkpoint, Adapted, Oom,
    End
);

/// An update that was applied.
impl Default for Update {
    fn default() -> Self {
        Self {
            step: 0,
            micro_batches: None,
            targets: None,
            lr: Vec::new(),
            grad_norm: None,
            clipped_norm: None,
            applied: true,
            digest: None,
            optimizer: None,
            decay: Vec::new(),
            since: None,
            tensors: Vec::new(),
        }
    }
}
