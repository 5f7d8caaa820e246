//! The ranks of a run, which train together: one process each, at once, as torchrun starts them.

use std::io;
use std::net::TcpListener;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use traintrue_judge::evidence::{Evidence, RunRecord, SegmentEnding};
use traintrue_protocol::plan::Train;

use super::{Happening, Runner, RunnerError, create, join, trace_name};
use crate::scenario::ConcreteRun;

/// Where the processes of one segment find each other, and whether one of them has failed.
pub(super) struct Meeting {
    port: u16,
    pub(super) given_up: AtomicBool,
}

impl Meeting {
    fn arrange() -> io::Result<Self> {
        // Free a moment ago: rank 0 takes it before anybody is likely to.
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        Ok(Self { port, given_up: AtomicBool::new(false) })
    }

    /// What torchrun would set for this rank.
    pub(super) fn environment(&self, train: &Train) -> Vec<(&'static str, String)> {
        vec![
            ("MASTER_ADDR", "127.0.0.1".to_owned()),
            ("MASTER_PORT", self.port.to_string()),
            ("RANK", train.rank.to_string()),
            ("LOCAL_RANK", train.rank.to_string()),
            ("WORLD_SIZE", train.world.to_string()),
            ("LOCAL_WORLD_SIZE", train.world.to_string()),
        ]
    }
}

impl Runner<'_> {
    /// Makes a run: segment by segment, all ranks of one at once. It ends with the first segment in which a rank goes wrong.
    pub(super) fn ranks(
        &self,
        scenario: &str,
        ranks: &[ConcreteRun],
        traces: &Path,
    ) -> Result<Evidence, RunnerError> {
        let mut records: Vec<RunRecord> = ranks.iter().map(|rank| RunRecord::new(&rank.name)).collect();
        let segments = ranks.iter().map(|rank| rank.segments.len()).min().unwrap_or_default();
        for at in 0..segments {
            create(&ranks[0].checkpoints)?;
            let meeting = Meeting::arrange()
                .map_err(|source| RunnerError::Port { run: ranks[0].name.clone(), source })?;
            let endings = self.at_once(ranks, at, &meeting, traces)?;
            for ((record, rank), ending) in records.iter_mut().zip(ranks).zip(endings) {
                record.evidence.segments.push(traces.join(trace_name(rank, at)));
                record.endings.push(ending);
                record.complete = record.endings.len() == segments;
            }
            if !records.iter().all(RunRecord::as_meant) {
                break;
            }
        }
        for rank in ranks {
            self.observer.see(Happening::Ran { scenario, run: &rank.name });
        }
        join(records.into_iter().map(|record| Ok(Evidence::of(record))).collect())
    }

    fn at_once(
        &self,
        ranks: &[ConcreteRun],
        at: usize,
        meeting: &Meeting,
        traces: &Path,
    ) -> Result<Vec<SegmentEnding>, RunnerError> {
        // Threads of their own: a pool with fewer threads than ranks would wait for itself.
        thread::scope(|scope| {
            let run = |rank: &ConcreteRun| {
                let trace = traces.join(trace_name(rank, at));
                let ended = self.segment(&rank.segments[at], &trace, Some(meeting));
                if !ended.as_ref().is_ok_and(|ending| ending.as_meant) {
                    meeting.given_up.store(true, Ordering::Relaxed);
                }
                ended
            };
            let started: Vec<_> = ranks.iter().map(|rank| scope.spawn(move || run(rank))).collect();
            started.into_iter().map(|rank| rank.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        })
    }
}
