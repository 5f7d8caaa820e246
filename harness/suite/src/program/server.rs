//! A trainer that serves: one process that has imported what it needs and trained nothing, and a fork of it per run.
//!
//! A fork has an exit status, a standard error, a process group and a memory of its own, like a process that was started. It
//! shares with the other forks what its parent drew at its start, such as the order of a set. Therefore two servers take
//! turns: the first two runs of a scenario share nothing.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::process::{Attended, Limits, Process, Stop, attend_to, kill_group};
use super::{guardian, scratch};

/// How long a server may take to import what it needs, and to fork.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a killed fork may take to end.
const END: Duration = Duration::from_secs(10);

/// The servers of one trainer. Each is started when its first turn comes.
#[derive(Debug)]
pub struct Servers {
    words: Vec<OsString>,
    servers: [OnceLock<Option<Server>>; 2],
    /// Runs so far, by scenario.
    turns: Mutex<HashMap<String, usize>>,
}

impl Servers {
    /// The servers that `words` start.
    pub fn new(words: Vec<OsString>) -> Self {
        Self { words, servers: Default::default(), turns: Mutex::default() }
    }

    /// The server whose turn it is in this scenario. None where it cannot be started: a run is then a process of its own.
    pub fn next(&self, scenario: &str) -> Option<&Server> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = turns.entry(scenario.to_owned()).or_default();
            *turn += 1;
            *turn
        };
        let place = &self.servers[turn % self.servers.len()];
        place.get_or_init(|| Server::start(&self.words).ok()).as_ref()
    }
}

/// One process that forks.
#[derive(Debug)]
pub struct Server {
    requests: Mutex<ChildStdin>,
    waiting: Arc<Mutex<Waiting>>,
    last: AtomicU64,
    /// The folder of the sockets.
    folder: tempfile::TempDir,
    _process: Mutex<Attended>,
}

/// Who is told of each run; none once the server has ended.
type Waiting = Option<HashMap<u64, Sender<Reply>>>;

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    socket: &'a Path,
    stderr: &'a Path,
    environment: HashMap<&'a str, &'a str>,
}

/// A line of the server: about one run, or, as the first, that it is ready.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Reply {
    id: Option<u64>,
    #[serde(default)]
    ready: bool,
    pid: Option<u32>,
    exit: Option<i32>,
    signal: Option<i32>,
}

impl Reply {
    /// The status of a run that has ended.
    fn status(self) -> Option<ExitStatus> {
        // As wait(2) has it: the exit status stands above the signal.
        let raw = self.signal.or(self.exit.map(|exit| (exit & 0xff) << 8))?;
        Some(ExitStatus::from_raw(raw))
    }
}

impl Server {
    fn start(words: &[OsString]) -> io::Result<Self> {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Attended::begin(&mut command)?;
        let requests = process.0.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let replies = process.0.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let (sender, ready) = channel();
        let told = Arc::clone(&waiting);
        thread::spawn(move || listen(BufReader::new(replies), &sender, &told));
        match ready.recv_timeout(PATIENCE) {
            Ok(Reply { ready: true, .. }) => {}
            // Not ready, for a reason of its own; dropping the process ends it.
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        let folder = scratch()?;
        let (requests, _process) = (Mutex::new(requests), Mutex::new(process));
        Ok(Self { requests, waiting, last: AtomicU64::new(0), folder, _process })
    }

    /// A fork, and the connection that is its standard input and output. Fails where there is none.
    pub fn fork(&self, stderr: &Path, environment: &[(&str, String)]) -> io::Result<(UnixStream, Fork)> {
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        let (socket, stderr) = (&self.folder.path().join(id.to_string()), &std::path::absolute(stderr)?);
        let listener = UnixListener::bind(socket)?;
        let (sender, replies) = channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.insert(id, sender);
        drop(waiting);
        let environment = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut line = serde_json::to_vec(&Request { id, socket, stderr, environment })?;
        line.push(b'\n');
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.write_all(&line).and_then(|()| requests.flush())?;
        drop(requests);
        // The server connects before it forks: with its answer, the connection is there.
        let answer = replies.recv_timeout(PATIENCE).map_err(|_| io::ErrorKind::BrokenPipe)?;
        let pid = answer.pid.ok_or(io::ErrorKind::InvalidData)?;
        guardian::has(pid);
        let (stream, _) = listener.accept()?;
        // The connection outlives its name.
        std::fs::remove_file(socket)?;
        Ok((stream, Fork { pid, replies, status: None }))
    }
}

/// Attends to a fork: its plan goes into the connection, and its trace comes out.
pub fn attend_connected(
    fork: Fork,
    connection: UnixStream,
    plan: Vec<u8>,
    output: impl Write + Send + 'static,
    limits: Limits<'_>,
) -> io::Result<(Stop, Duration)> {
    let begun = Instant::now();
    let mut input = connection.try_clone()?;
    thread::spawn(move || {
        // A fork need not read its plan.
        let _ = input.write_all(&plan).and_then(|()| input.shutdown(Shutdown::Write));
    });
    attend_to(fork, begun, connection, output, limits)
}

/// Passes each line on to the run that it is about, and the first to who starts the server.
fn listen(replies: impl BufRead, ready: &Sender<Reply>, waiting: &Mutex<Waiting>) {
    for line in replies.lines().map_while(Result::ok) {
        let Ok(reply) = serde_json::from_str::<Reply>(&line) else { break };
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = reply.id else {
            let _ = ready.send(reply);
            continue;
        };
        let told = waiting.as_mut().and_then(|waiting| match reply.pid {
            Some(_) => waiting.get(&id).cloned(),
            None => waiting.remove(&id),
        });
        // Nobody listens any more where a run was given up.
        let _ = told.map(|told| told.send(reply));
    }
    *waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// One run, as a fork of the server.
pub struct Fork {
    pid: u32,
    replies: Receiver<Reply>,
    status: Option<ExitStatus>,
}

impl Process for Fork {
    fn poll(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = match self.replies.try_recv() {
                Ok(reply) => reply.status(),
                Err(TryRecvError::Empty) => None,
                // The server died and took nobody with it: nobody can say how this run ends.
                Err(TryRecvError::Disconnected) => return Err(io::ErrorKind::BrokenPipe.into()),
            };
        }
        Ok(self.status)
    }

    fn kill_group(&self) {
        kill_group(self.pid);
    }

    fn end(&mut self) {
        self.kill_group();
        let reply = self.replies.recv_timeout(END).unwrap_or_default();
        self.status = self.status.or(reply.status());
    }
}

impl Drop for Fork {
    fn drop(&mut self) {
        if !matches!(self.poll(), Ok(Some(_))) {
            self.end();
        }
        guardian::lets_go(self.pid);
    }
}
