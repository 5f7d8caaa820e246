//! What every rank gives, on every rank: the only thing that ranks exchange.
//!
//! Rank 0 listens where `MASTER_ADDR` and `MASTER_PORT` say, as torchrun sets them, and the others connect. A gathering is
//! one message of each to rank 0 and one back to each. Each names what it is for, so that ranks that are out of step are
//! told so, and no wait is without end: a rank that leaves is noticed at once, and one that is late after a minute.
//!
//! burn-collective 0.21 does not carry it: between two processes its second all-reduce never returned (6 of 6 runs, ring and
//! centralized), and a rank that leaves it is waited for without end.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use traintrue_protocol::plan::Train;

/// How long ranks wait for each other.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(2);
/// A message that names more than this is none of ours.
const LONGEST_NAME: usize = 256;

/// The ranks of a training, as one of them sees them.
#[derive(Debug)]
pub struct Ranks {
    /// This one.
    pub rank: usize,
    /// How many there are.
    pub world: usize,
    /// On rank 0 one per other rank, in their order; on the others the one to rank 0.
    links: Vec<TcpStream>,
}

/// Ranks that cannot train together, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum RanksError {
    #[error(
        "plan: train.together: {variable} is {found}, expected where rank 0 listens: traintrue sets it, as torchrun does"
    )]
    Nowhere { variable: &'static str, found: String },
    #[error("rank {rank} cannot reach rank 0 at {address}: {source}")]
    Unreachable { rank: usize, address: String, source: io::Error },
    #[error("rank 0 waited {seconds} s at {address}, and {missing} of the other ranks did not come", seconds = PATIENCE.as_secs())]
    Absent { address: String, missing: usize },
    #[error("rank {rank} has left; rank {own} waits for it at {at}")]
    Left { rank: usize, own: usize, at: String },
    #[error("rank {rank} did not come to {at} within {seconds} s; rank {own} waits for it", seconds = PATIENCE.as_secs())]
    Late { rank: usize, own: usize, at: String },
    #[error("rank {rank} is at {there}, and rank {own} at {at}: the ranks are out of step")]
    Elsewhere { rank: usize, own: usize, at: String, there: String },
}

impl Ranks {
    /// Finds the other ranks. Alone where the plan's ranks do not train together.
    pub fn join(train: &Train) -> Result<Self, RanksError> {
        let (rank, world) = (train.rank as usize, train.world as usize);
        if !train.together || world == 1 {
            return Ok(Self { rank: 0, world: 1, links: Vec::new() });
        }
        let variable = |variable: &'static str| {
            let absent = |_| RanksError::Nowhere { variable, found: "not set".to_owned() };
            std::env::var(variable).map_err(absent)
        };
        let (host, port) = (variable("MASTER_ADDR")?, variable("MASTER_PORT")?);
        let nowhere = |_| RanksError::Nowhere { variable: "MASTER_PORT", found: port.clone() };
        let at = (host.as_str(), port.parse().map_err(nowhere)?);
        let links = if rank == 0 { listen(at, world - 1)? } else { vec![connect(at, rank)?] };
        Ok(Self { rank, world, links })
    }

    /// What each rank gives, in the order of the ranks. `at` names the place in training.
    pub fn gather(&mut self, at: &str, own: &[f64]) -> Result<Vec<Vec<f64>>, RanksError> {
        let rank = self.rank;
        let failed = |other: usize, failure| failure_at(failure, other, rank, at);
        match self.links.as_mut_slice() {
            [] => Ok(vec![own.to_vec()]),
            [root] if rank > 0 => {
                send(root, at, own).map_err(|error| failed(0, error.into()))?;
                (0..self.world).map(|_| receive(root, at).map_err(|it| failed(0, it))).collect()
            }
            others => {
                let mut all = vec![own.to_vec()];
                for (other, link) in (1..).zip(&mut *others) {
                    all.push(receive(link, at).map_err(|it| failed(other, it))?);
                }
                for (other, link) in (1..).zip(others) {
                    for values in &all {
                        send(link, at, values).map_err(|error| failed(other, error.into()))?;
                    }
                }
                Ok(all)
            }
        }
    }
}

fn listen(at: (&str, u16), others: usize) -> Result<Vec<TcpStream>, RanksError> {
    let address = format!("{}:{}", at.0, at.1);
    let failed = |source| RanksError::Unreachable { rank: 0, address: address.clone(), source };
    let listener = TcpListener::bind(at).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let mut links: Vec<(usize, TcpStream)> = Vec::new();
    let begun = Instant::now();
    while links.len() < others {
        match listener.accept() {
            Ok((mut link, _)) => {
                settle(&link).map_err(failed)?;
                let mut rank = [0; 8];
                link.read_exact(&mut rank).map_err(failed)?;
                links.push((u64::from_le_bytes(rank) as usize, link));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < PATIENCE => {
                thread::sleep(PAUSE);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(RanksError::Absent { address, missing: others - links.len() });
            }
            Err(error) => return Err(failed(error)),
        }
    }
    links.sort_by_key(|(rank, _)| *rank);
    Ok(links.into_iter().map(|(_, link)| link).collect())
}

fn connect(at: (&str, u16), rank: usize) -> Result<TcpStream, RanksError> {
    let begun = Instant::now();
    let joined = loop {
        // Rank 0 may not listen yet.
        match TcpStream::connect(at) {
            Err(_) if begun.elapsed() < PATIENCE => thread::sleep(PAUSE),
            ended => break ended,
        }
    };
    let introduced = joined.and_then(|mut link| {
        settle(&link)?;
        link.write_all(&(rank as u64).to_le_bytes())?;
        Ok(link)
    });
    introduced.map_err(|source| {
        let address = format!("{}:{}", at.0, at.1);
        RanksError::Unreachable { rank, address, source }
    })
}

fn settle(link: &TcpStream) -> io::Result<()> {
    // Accepted sockets inherit this on some systems.
    link.set_nonblocking(false)?;
    link.set_nodelay(true)?;
    link.set_read_timeout(Some(PATIENCE))?;
    link.set_write_timeout(Some(PATIENCE))
}

fn send(to: &mut TcpStream, at: &str, values: &[f64]) -> io::Result<()> {
    let mut message = Vec::with_capacity(16 + at.len() + 8 * values.len());
    message.extend((at.len() as u64).to_le_bytes());
    message.extend((values.len() as u64).to_le_bytes());
    message.extend(at.as_bytes());
    message.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    to.write_all(&message)
}

/// Why nothing came.
enum Failure {
    Io(io::Error),
    Elsewhere(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn receive(from: &mut TcpStream, at: &str) -> Result<Vec<f64>, Failure> {
    let mut number = || -> io::Result<usize> {
        let mut bytes = [0; 8];
        from.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes) as usize)
    };
    let (name, count) = (number()?.min(LONGEST_NAME), number()?);
    let mut there = vec![0; name];
    from.read_exact(&mut there)?;
    if there != at.as_bytes() {
        return Err(Failure::Elsewhere(String::from_utf8_lossy(&there).into_owned()));
    }
    let mut bytes = Vec::new();
    let whole = 8 * count as u64;
    if from.take(whole).read_to_end(&mut bytes)? as u64 != whole {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(bytes.as_chunks().0.iter().map(|it| f64::from_le_bytes(*it)).collect())
}

fn failure_at(failure: Failure, rank: usize, own: usize, at: &str) -> RanksError {
    let at = at.to_owned();
    match failure {
        Failure::Elsewhere(there) => RanksError::Elsewhere { rank, own, at, there },
        Failure::Io(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            RanksError::Late { rank, own, at }
        }
        Failure::Io(_) => RanksError::Left { rank, own, at },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two ranks joined in one process.
    fn pair() -> [Ranks; 2] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (root, _) = listener.accept().unwrap();
        [(0, root), (1, other)].map(|(rank, link)| {
            settle(&link).unwrap();
            Ranks { rank, world: 2, links: vec![link] }
        })
    }

    #[test]
    fn every_rank_gets_what_each_gives_in_the_order_of_the_ranks() {
        let [mut root, mut other] = pair();
        let there = thread::spawn(move || other.gather("update 1", &[3.0, 4.0]).unwrap());
        let here = root.gather("update 1", &[1.0]).unwrap();
        assert_eq!(here, [vec![1.0], vec![3.0, 4.0]]);
        assert_eq!(there.join().unwrap(), here);
    }

    #[test]
    fn a_rank_that_leaves_is_named_with_the_place() {
        let [mut root, other] = pair();
        drop(other);
        let error = root.gather("update 3", &[]).unwrap_err().to_string();
        assert_eq!(error, "rank 1 has left; rank 0 waits for it at update 3");
    }

    #[test]
    fn a_rank_that_is_late_is_named_with_the_place() {
        let [mut root, _other] = pair();
        root.links[0].set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let error = root.gather("update 3", &[]).unwrap_err().to_string();
        assert_eq!(error, "rank 1 did not come to update 3 within 60 s; rank 0 waits for it");
    }

    #[test]
    fn ranks_at_two_places_are_out_of_step() {
        let [mut root, mut other] = pair();
        let there = thread::spawn(move || other.gather("the evaluation after update 2", &[]).is_err());
        let error = root.gather("update 3", &[]).unwrap_err().to_string();
        drop(root);
        assert!(
            error.starts_with("rank 1 is at the evaluation after update 2, and rank 0 at update 3"),
            "{error}"
        );
        assert!(there.join().unwrap());
    }

    #[test]
    fn a_rank_of_a_plan_that_does_not_train_together_is_alone() {
        let train = Train { world: 3, rank: 1, ..traintrue_protocol::plan::example().train };
        let mut alone = Ranks::join(&train).unwrap();
        assert_eq!((alone.world, alone.gather("update 1", &[2.0]).unwrap()), (1, vec![vec![2.0]]));
    }
}
