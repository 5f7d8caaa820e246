//! The start of a run, fresh or from a checkpoint, and saving.

use std::fs;
use std::path::{Path, PathBuf};

use traintrue_protocol::plan::{Boundary, Restore, Start};
use traintrue_protocol::trace::event::{CheckpointEdge, Cursor};
use traintrue_protocol::vocabulary::Moment;

use super::Training;
use crate::adapters::adapter_file;
use crate::checkpoint::{CheckpointError, Found};
use crate::engine::Engine;
use crate::error::TrainError;
use crate::events;
use crate::optimizer::AdamW;
use crate::resume;
use crate::state::State;

impl<E: Engine> Training<'_, '_, E> {
    /// Loads the checkpoint that the plan starts from, where it names one.
    pub(super) fn start(&mut self) -> Result<(), TrainError> {
        let Some(Start { from, what }) = &self.plan.start else {
            return self.tell_state(Moment::Start);
        };
        let found = self.load(from)?;
        match what {
            Restore::Everything => {
                resume::restore(&self.parts.resume, &mut self.state, found.content, self.plan, &found.path)?;
            }
            Restore::Weights => {
                let file = adapter_file(&found.content, &found.path)?;
                let State { model, parameters, .. } = &mut self.state;
                (self.parts.adapters.load)(model, parameters, &file, self.plan)
                    .map_err(|problem| CheckpointError::Mismatch { path: found.path.clone(), problem })?;
                // After the load, which decides which parameters there are and which of them are trained.
                self.state.optimizer = AdamW::over(&self.state.parameters, self.parts.update.optimizes);
            }
        }
        self.began = self.state.cursor;
        self.tell_checkpoint(CheckpointEdge::Loaded, self.began, &found.path, 0, found.damaged)?;
        self.tell_state(Moment::Loaded)
    }

    /// Saves a checkpoint into `folder`.
    pub(super) fn save(&mut self, folder: &Path) -> Result<(), TrainError> {
        let cursor = (self.parts.unchanged.saved_cursor)(self.planned_cursor(), self.began);
        let content = (self.parts.resume.capture)(&mut self.state, self.plan, cursor);
        let (path, removed) = match self.ranks.rank {
            0 => self.store.save(folder, &content)?,
            rank => self.store.save(&own_folder(folder, rank as u64)?, &resume::of_a_rank(content))?,
        };
        // No rank goes on, or ends, before the others have written what a resume needs of them.
        self.ranks.gather(&format!("the save after update {}", self.state.step), &[])?;
        let operations = self.store.files.operations();
        self.tell_checkpoint(CheckpointEdge::Saved, cursor, &path, operations, Vec::new())?;
        for path in removed {
            self.tell_checkpoint(CheckpointEdge::Deleted, cursor, &path, operations, Vec::new())?;
        }
        Ok(())
    }

    /// The newest good checkpoint: rank 0 writes what all ranks share, and each other rank the rest.
    fn load(&self, from: &Path) -> Result<Found, TrainError> {
        let shared = self.store.load(from)?;
        match (self.parts.ranks.loads_as)(self.ranks.rank as u64) {
            0 => Ok(shared),
            rank => {
                let own = self.store.load(&own_folder(from, rank)?)?;
                let content = resume::with_the_rank(shared.content, own.content, &own.path)?;
                Ok(Found { content, ..shared })
            }
        }
    }

    fn tell_checkpoint(
        &mut self,
        edge: CheckpointEdge,
        cursor: Cursor,
        path: &Path,
        operations: u64,
        damaged: Vec<String>,
    ) -> Result<(), TrainError> {
        let step = self.state.step;
        self.recorder.write(|| events::checkpoint(edge, step, cursor, path, operations, damaged))?;
        Ok(self.recorder.memory_at(Boundary::Checkpoint, step)?)
    }
}

/// Where a rank other than 0 keeps its part of a checkpoint.
fn own_folder(root: &Path, rank: u64) -> Result<PathBuf, CheckpointError> {
    let path = root.join(format!("rank-{rank}"));
    match fs::create_dir_all(&path) {
        Ok(()) => Ok(path),
        Err(source) => Err(CheckpointError::Io { what: "make a folder", path, source }),
    }
}
