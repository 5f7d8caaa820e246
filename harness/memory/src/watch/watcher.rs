//! The loop of a watched command: wait, measure, decide.

use std::io;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use signal_hook::consts::signal::SIGTSTP;
use signal_hook::low_level::emulate_default_handler;
use traintrue_protocol::lanes::nvidia::Devices;

use super::limit::{Limit, Sent, Stopped};
use super::output::{Copying, stream};
use super::pattern::StepFinder;
use super::processes::Processes;
use super::record::{Record, Sample};
use super::throttle::Throttle;
use super::trace::TraceTail;
use super::wake::{LastStep, Wake};
use super::{Observer, Request, Steps};
use crate::machine;

/// The time between two samples while a command is being stopped.
const WHILE_ENDING: Duration = Duration::from_millis(20);

/// The GPU driver is asked at least this often, even if it is slow.
const ASKED_WITHIN: Duration = Duration::from_secs(2);

/// How long to wait for processes that SIGKILL does not end at once.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// A running command, and everything known about it.
pub struct Watcher<'a> {
    processes: Processes,
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

/// How far the command has been stopped.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// It runs.
    Not,
    /// It got SIGTERM at this time.
    Asked(Instant),
    /// It got SIGKILL at this time.
    Killed(Instant),
}

impl<'a> Watcher<'a> {
    /// Watches a command that has just started.
    pub fn new(
        processes: Processes,
        limit: Option<Limit>,
        record: Record,
        tail: Option<TraceTail>,
        gpus: Option<Gpus>,
        observer: &'a mut dyn Observer,
    ) -> Self {
        Self {
            processes,
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

    /// Copies the command's output, if steps are to be found in it.
    pub fn pass_output(&mut self, request: &Request, wake: &SyncSender<Wake>) -> io::Result<Copying> {
        let mut copying = Copying::default();
        let Steps::Output(pattern) = &request.steps else { return Ok(copying) };
        let child = self.processes.child();
        let out = if request.output_to_stderr { stream(io::stderr())? } else { stream(io::stdout())? };
        let streams = [
            (child.stdout.take().map(Into::into), out),
            (child.stderr.take().map(Into::into), stream(io::stderr())?),
        ];
        for (number, (from, to)) in streams.into_iter().enumerate() {
            let (mut finder, last, wake) =
                (StepFinder::new(pattern.clone()), self.step.clone(), wake.clone());
            let seen = move |bytes: &[u8]| {
                if finder.read(bytes).is_some_and(|step| last.note(number, step)) {
                    // If the channel is full, the watcher will wake and read the last step anyway.
                    let _ = wake.try_send(Wake::Step);
                }
            };
            if let Some(from) = from {
                copying.begin(from, to, seen);
            }
        }
        Ok(copying)
    }

    /// Watches until the command has ended. If it was stopped, until all its processes have ended.
    pub fn run(&mut self, wakes: &Receiver<Wake>, every: Duration) -> io::Result<ExitStatus> {
        let mut due = Instant::now();
        let mut stepped: Option<Instant> = None;
        loop {
            if let Some(exit) = self.processes.exit()?
                && self.is_over()
            {
                return Ok(exit);
            }
            let woken = wakes.recv_timeout(due.saturating_duration_since(Instant::now()));
            let now = Instant::now();
            match woken {
                Ok(Wake::Signal(signal)) => self.pass_on(signal),
                Ok(Wake::Child) => {}
                // Sample at the end of a step, where memory is in the same phase each time. Steps that are faster than
                // `every` wait for the next sample.
                Ok(Wake::Step) if stepped.is_none_or(|last| now.duration_since(last) >= every) => {
                    stepped = Some(now);
                    self.look();
                }
                Ok(Wake::Step) => {}
                Err(_) => {
                    self.look();
                    due = now
                        + if matches!(self.ending, Ending::Not) { every } else { every.min(WHILE_ENDING) };
                }
            }
        }
    }

    /// The record, why the command was stopped, and the processes that are still alive.
    pub fn end(mut self) -> (Record, Option<Stopped>, Vec<i32>) {
        let survivors = self.processes.living();
        (self.record, self.stopped, survivors)
    }

    fn is_over(&mut self) -> bool {
        match self.ending {
            Ending::Not => true,
            Ending::Asked(_) => self.processes.living().is_empty(),
            Ending::Killed(at) => self.processes.living().is_empty() || at.elapsed() > KILLED_WITHIN,
        }
    }

    /// Takes a sample, and acts on it.
    fn look(&mut self) {
        if let Some(step) = self.tail.as_mut().and_then(TraceTail::read) {
            self.step.note(0, step);
        }
        let rss_bytes = self.processes.rss_bytes();
        // Forked workers share most of their parent's pages, so resident sizes count these pages several times. Before
        // stopping a command, the shared pages are counted once.
        let held_bytes = match self.limit {
            Some(limit) if rss_bytes >= limit.max.0 => self.processes.pss_bytes(),
            _ => rss_bytes,
        };
        let available = self.limit.and_then(|_| machine::available());
        match (self.ending, self.limit) {
            // All processes have ended, so a sample of 0 bytes would only distort the slope.
            (Ending::Not, _) if rss_bytes == 0 => {}
            (Ending::Not, limit) => {
                let bytes =
                    [Some(rss_bytes), self.gpus.as_mut().and_then(|gpus| gpus.bytes(&self.processes))];
                let sample = Sample { seconds: self.begun.elapsed().as_secs_f64(), bytes };
                self.record.add(sample, self.step.get());
                let crossed = limit.and_then(|it| it.crossed(held_bytes, available, self.step.get()));
                match crossed {
                    Some(stopped) => self.stop(stopped),
                    None => self.observer.sampled(&self.record),
                }
            }
            (Ending::Asked(at), Some(limit)) if limit.overdue(at, held_bytes, available) => self.kill(),
            // Processes may have been started while the others were killed.
            (Ending::Killed(_), _) => self.processes.signal(Signal::KILL),
            _ => {}
        }
    }

    fn stop(&mut self, stopped: Stopped) {
        self.ending = Ending::Asked(Instant::now());
        self.processes.signal(Signal::TERM);
        self.observer.stopping(&stopped);
        self.stopped = Some(stopped);
    }

    fn kill(&mut self) {
        self.ending = Ending::Killed(Instant::now());
        self.processes.signal(Signal::KILL);
        if let Some(stopped) = &mut self.stopped {
            stopped.signal = Sent::Kill;
        }
    }

    /// Forwards a signal to the command. Ctrl-Z stops the watcher and the command, and `fg` continues both.
    fn pass_on(&mut self, signal: i32) {
        if let Some(named) = Signal::from_named_raw(signal) {
            self.processes.forward(named);
        }
        if signal == SIGTSTP && emulate_default_handler(SIGTSTP).is_ok() {
            self.processes.forward(Signal::CONT);
        }
    }
}

/// The GPU memory of the command's processes.
pub struct Gpus {
    devices: Devices,
    ask: Throttle,
    bytes: Option<u64>,
}

impl Gpus {
    /// `None` if there is no GPU driver.
    pub fn open() -> Option<Self> {
        let devices = Devices::open()?;
        Some(Self { devices, ask: Throttle::new(Duration::ZERO, ASKED_WITHIN), bytes: None })
    }

    /// The value of the last query. None until one of the processes has used a GPU.
    fn bytes(&mut self, processes: &Processes) -> Option<u64> {
        if let Some(by_pid) = self.ask.when_due(|| self.devices.process_bytes()) {
            let theirs = |pid: &u32| i32::try_from(*pid).is_ok_and(|pid| processes.has(pid));
            let found: Vec<u64> = by_pid.iter().filter(|(pid, _)| theirs(pid)).map(|(_, it)| *it).collect();
            if self.bytes.is_some() || !found.is_empty() {
                self.bytes = Some(found.iter().sum());
            }
        }
        self.bytes
    }
}
