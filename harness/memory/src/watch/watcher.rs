//! The loop of a watched command: wait, measure, decide.

use std::io;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use signal_hook::consts::signal::SIGTSTP;
use signal_hook::low_level::emulate_default_handler;
use traintrue_protocol::lanes::nvidia::Devices;

use super::bell::{Bell, LastStep};
use super::family::Family;
use super::limit::{Limit, Sent, Stopped};
use super::output::{Copying, stream};
use super::pattern::StepFinder;
use super::record::{Record, Sample};
use super::sparing::Sparing;
use super::trace::TraceTail;
use super::{Observer, Request, Steps};
use crate::machine;

/// While a command is being ended it is looked at this often.
const WHILE_ENDING: Duration = Duration::from_millis(20);

/// However slow the driver, it is asked within this time.
const ASKED_WITHIN: Duration = Duration::from_secs(2);

/// How long those are waited for that a kill does not end at once.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// A command that runs, and all that is known of it.
pub struct Watcher<'a> {
    family: Family,
    limit: Option<Limit>,
    record: Record,
    tail: Option<TraceTail>,
    step: LastStep,
    begun: Instant,
    gpus: Option<Gpus>,
    ending: Ending,
    stopped: Option<Stopped>,
    observer: &'a mut dyn Observer,
}

/// How far a command is on its way to its end.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// It runs.
    Not,
    /// It was asked to end.
    Asked(Instant),
    /// It was killed.
    Killed(Instant),
}

impl<'a> Watcher<'a> {
    /// Watches a family that has just begun.
    pub fn new(
        family: Family,
        limit: Option<Limit>,
        record: Record,
        tail: Option<TraceTail>,
        gpus: Option<Gpus>,
        observer: &'a mut dyn Observer,
    ) -> Self {
        Self {
            family,
            limit,
            record,
            tail,
            step: LastStep::default(),
            begun: Instant::now(),
            gpus,
            ending: Ending::Not,
            stopped: None,
            observer,
        }
    }

    /// Passes on what the command says, where steps are to be seen in it.
    pub fn pass_output(&mut self, request: &Request, bell: &SyncSender<Bell>) -> io::Result<Copying> {
        let mut copying = Copying::default();
        let Steps::Output(pattern) = &request.steps else { return Ok(copying) };
        let child = self.family.child();
        let out = if request.output_to_stderr { stream(io::stderr())? } else { stream(io::stdout())? };
        let streams = [
            (child.stdout.take().map(Into::into), out),
            (child.stderr.take().map(Into::into), stream(io::stderr())?),
        ];
        for (number, (from, to)) in streams.into_iter().enumerate() {
            let (mut finder, last, bell) =
                (StepFinder::new(pattern.clone()), self.step.clone(), bell.clone());
            let seen = move |bytes: &[u8]| {
                if finder.read(bytes).is_some_and(|step| last.tell(number, step)) {
                    // Where the bell rings already, the last step will be asked for anyway.
                    let _ = bell.try_send(Bell::Step);
                }
            };
            if let Some(from) = from {
                copying.begin(from, to, seen);
            }
        }
        Ok(copying)
    }

    /// Watches until the command has ended, and until nobody is left where it was ended.
    pub fn run(&mut self, rings: &Receiver<Bell>, every: Duration) -> io::Result<ExitStatus> {
        let mut due = Instant::now();
        let mut stepped: Option<Instant> = None;
        loop {
            if let Some(exit) = self.family.exit()?
                && self.is_over()
            {
                return Ok(exit);
            }
            let ring = rings.recv_timeout(due.saturating_duration_since(Instant::now()));
            let now = Instant::now();
            match ring {
                Ok(Bell::Signal(signal)) => self.pass_on(signal),
                Ok(Bell::Child) => {}
                // At the end of a step memory is in the same phase each time; faster steps wait for the next sample.
                Ok(Bell::Step) if stepped.is_none_or(|last| now.duration_since(last) >= every) => {
                    stepped = Some(now);
                    self.look();
                }
                Ok(Bell::Step) => {}
                Err(_) => {
                    self.look();
                    due = now
                        + if matches!(self.ending, Ending::Not) { every } else { every.min(WHILE_ENDING) };
                }
            }
        }
    }

    /// What is known in the end, and who lives on.
    pub fn end(mut self) -> (Record, Option<Stopped>, Vec<i32>) {
        let survivors = self.family.living();
        (self.record, self.stopped, survivors)
    }

    fn is_over(&mut self) -> bool {
        match self.ending {
            Ending::Not => true,
            Ending::Asked(_) => self.family.living().is_empty(),
            Ending::Killed(at) => self.family.living().is_empty() || at.elapsed() > KILLED_WITHIN,
        }
    }

    /// Takes a sample, and acts on it.
    fn look(&mut self) {
        if let Some(step) = self.tail.as_mut().and_then(TraceTail::read) {
            self.step.tell(0, step);
        }
        let rss_bytes = self.family.rss_bytes();
        // Forked workers share most of their parent's pages: to be ended for them, a tree must hold them itself.
        let held_bytes = match self.limit {
            Some(limit) if rss_bytes >= limit.max.0 => self.family.pss_bytes(),
            _ => rss_bytes,
        };
        let available = self.limit.and_then(|_| machine::available());
        match (self.ending, self.limit) {
            // Nobody is left whose memory this could be.
            (Ending::Not, _) if rss_bytes == 0 => {}
            (Ending::Not, limit) => {
                let bytes = [Some(rss_bytes), self.gpus.as_mut().and_then(|gpus| gpus.bytes(&self.family))];
                let sample = Sample { seconds: self.begun.elapsed().as_secs_f64(), bytes };
                self.record.add(sample, self.step.get());
                let crossed = limit.and_then(|it| it.crossed(held_bytes, available, self.step.get()));
                match crossed {
                    Some(stopped) => self.stop(stopped),
                    None => self.observer.sampled(&self.record),
                }
            }
            (Ending::Asked(at), Some(limit)) if limit.overdue(at, held_bytes, available) => self.kill(),
            // Whoever was begotten while the others died.
            (Ending::Killed(_), _) => self.family.signal(Signal::KILL),
            _ => {}
        }
    }

    fn stop(&mut self, stopped: Stopped) {
        self.ending = Ending::Asked(Instant::now());
        self.family.signal(Signal::TERM);
        self.observer.stopping(&stopped);
        self.stopped = Some(stopped);
    }

    fn kill(&mut self) {
        self.ending = Ending::Killed(Instant::now());
        self.family.signal(Signal::KILL);
        if let Some(stopped) = &mut self.stopped {
            stopped.signal = Sent::Kill;
        }
    }

    /// Passes a signal on to the command; who stops the watcher from a terminal stops both, and continues both.
    fn pass_on(&mut self, signal: i32) {
        if let Some(named) = Signal::from_named_raw(signal) {
            self.family.forward(named);
        }
        if signal == SIGTSTP && emulate_default_handler(SIGTSTP).is_ok() {
            self.family.forward(Signal::CONT);
        }
    }
}

/// What the processes hold on GPUs.
pub struct Gpus {
    devices: Devices,
    ask: Sparing,
    bytes: Option<u64>,
}

impl Gpus {
    /// `None` where there is no driver to ask.
    pub fn open() -> Option<Self> {
        let devices = Devices::open()?;
        Some(Self { devices, ask: Sparing::new(Duration::ZERO, ASKED_WITHIN), bytes: None })
    }

    /// As of the last time that the driver was asked; nothing until one of the processes has been seen on a GPU.
    fn bytes(&mut self, family: &Family) -> Option<u64> {
        if let Some(by_pid) = self.ask.when_due(|| self.devices.process_bytes()) {
            let theirs = |pid: &u32| i32::try_from(*pid).is_ok_and(|pid| family.has(pid));
            let found: Vec<u64> = by_pid.iter().filter(|(pid, _)| theirs(pid)).map(|(_, it)| *it).collect();
            if self.bytes.is_some() || !found.is_empty() {
                self.bytes = Some(found.iter().sum());
            }
        }
        self.bytes
    }
}
