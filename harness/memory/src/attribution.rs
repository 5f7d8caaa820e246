//! Why a lane grows: which lanes of the run grew with it, which did not, and where.
//!
//! A lane is the view of one counter, and each counter sees only what is its own. What grows in one and not in another
//! therefore lies between them: bytes that the process has and no counter of the program sees are native; bytes that a
//! pool has taken and nobody uses are the pool's.

use std::fmt;

use super::series::Point;
use super::slope::{Slope, SlopeVerdict};

/// The lanes that count what the program itself holds on the host, and on a device.
const HOST: [&str; 3] = ["heap_bytes", "tracked_bytes", "tracked_tensors"];
const DEVICE: [&str; 2] = ["device_in_use_bytes", "device_allocations"];
/// What the pool of a device has taken.
const POOL: &str = "device_reserved_bytes";
/// The lanes of whole processes, which see everything.
const HOST_PROCESS: &str = "rss_bytes";
const DEVICE_PROCESS: &str = "device_process_bytes";
/// The share of a lane's growth that falls on the edges of epochs where it is retention at every epoch.
const EDGE_SHARE: f64 = 0.8;
/// Blocks move where the least of them in the last quarter differs from that in the second by this share.
const MOVED_SHARE: f64 = 0.01;

/// One lane of a run.
#[derive(Clone, Copy, Debug)]
pub struct Lane<'a> {
    /// Its name, such as `heap_bytes`.
    pub name: &'a str,
    /// What was measured.
    pub points: &'a [Point],
    /// What it shows.
    pub slope: &'a Slope,
}

/// What the growth can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// It rises at the edges of epochs and is flat between them.
    PerEpoch,
    /// The program's own code holds what it has allocated.
    Held,
    /// The process grows and what is counted within it does not.
    Native,
    /// As native, but the number of blocks moves beneath the same bytes: it can be the allocator's fragmentation.
    Fragmentation,
    /// The pool takes memory that nobody uses.
    Pool,
    /// The other lanes do not tell.
    Unknown,
}

impl Cause {
    /// The cause in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::PerEpoch => "something is kept at every epoch edge: it rises there and is flat between",
            Self::Held => "the program's own code holds what it allocated",
            Self::Native => {
                "native: a buffer that no counter of the program sees, as the process grows and what is counted in it does not"
            }
            Self::Fragmentation => {
                "fragmentation, or a native buffer: the process grows, the heap's bytes do not, and the number of its blocks moves"
            }
            Self::Pool => "the pool: it reserves more and no more is in use",
            Self::Unknown => "the other lanes do not tell",
        }
    }
}

/// Why a lane grows.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribution {
    /// What it can be.
    pub cause: Cause,
    /// The other lanes that grew with it.
    pub grew: Vec<String>,
    /// The other lanes that did not.
    pub flat: Vec<String>,
    /// The step at which the growth that persists begins.
    pub from_step: Option<f64>,
}

impl fmt::Display for Attribution {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.cause.words())?;
        for (what, lanes) in [("grew with it", &self.grew), ("did not", &self.flat)] {
            if !lanes.is_empty() {
                write!(to, "; {what}: {}", lanes.join(", "))?;
            }
        }
        self.from_step.map_or(Ok(()), |step| write!(to, "; from step {step}"))
    }
}

/// Why the lane of this name grows, by what the lanes of its run show; `edges` are the updates done at each end of an epoch.
/// None where it is not there or is not shown to grow.
pub fn attribute(name: &str, lanes: &[Lane<'_>], edges: &[f64]) -> Option<Attribution> {
    let lane = lanes.iter().find(|lane| lane.name == name).filter(|lane| grows(lane))?;
    let others = || lanes.iter().filter(|other| other.name != name);
    let names = |verdict: SlopeVerdict| {
        others().filter(|other| other.slope.verdict == verdict).map(|other| other.name.to_owned()).collect()
    };
    Some(Attribution {
        cause: if at_edges(lane.points, edges) { Cause::PerEpoch } else { cause(name, lanes) },
        grew: names(SlopeVerdict::Exceeds),
        flat: names(SlopeVerdict::Within),
        from_step: lane.slope.from_step,
    })
}

fn cause(name: &str, lanes: &[Lane<'_>]) -> Cause {
    let counted = |names: &[&str]| -> Vec<&Lane<'_>> {
        lanes.iter().filter(|lane| lane.name != name && names.contains(&lane.name)).collect()
    };
    let shown = |lanes: &[&Lane<'_>]| {
        let grew = lanes.iter().any(|lane| grows(lane));
        let flat = !lanes.is_empty() && lanes.iter().all(|lane| lane.slope.verdict == SlopeVerdict::Within);
        (grew, flat)
    };
    let blocks_move = || lanes.iter().any(|lane| lane.name == "heap_blocks" && moves(lane.points));
    match name {
        _ if HOST.contains(&name) || DEVICE.contains(&name) || name == "heap_blocks" => Cause::Held,
        HOST_PROCESS => match shown(&counted(&HOST)) {
            (true, _) => Cause::Held,
            (_, true) if blocks_move() => Cause::Fragmentation,
            (_, true) => Cause::Native,
            _ => Cause::Unknown,
        },
        POOL => match shown(&counted(&DEVICE)) {
            (true, _) => Cause::Held,
            (_, true) => Cause::Pool,
            _ => Cause::Unknown,
        },
        DEVICE_PROCESS => match (shown(&counted(&DEVICE)), shown(&counted(&[POOL]))) {
            ((true, _), _) => Cause::Held,
            ((_, true), (true, _)) => Cause::Pool,
            ((_, true), (_, true)) => Cause::Native,
            _ => Cause::Unknown,
        },
        _ => Cause::Unknown,
    }
}

fn grows(lane: &Lane<'_>) -> bool {
    lane.slope.verdict == SlopeVerdict::Exceeds
}

/// Whether the lane rises where epochs end and not between: over at least two edges, most of all that it gains.
fn at_edges(points: &[Point], edges: &[f64]) -> bool {
    let [first, .., last] = points else { return false };
    let inner: Vec<f64> =
        edges.iter().copied().filter(|edge| (first.step..last.step).contains(edge)).collect();
    let gained_at = |edge: &f64| {
        let after = points.partition_point(|point| point.step <= *edge);
        points[after].bytes - points[after - 1].bytes
    };
    let gained: f64 = inner.iter().map(gained_at).sum();
    let all = last.bytes - first.bytes;
    inner.len() >= 2 && all > 0.0 && (EDGE_SHARE..=2.0 - EDGE_SHARE).contains(&(gained / all))
}

/// Whether a count has gone up or down for good since the second quarter.
fn moves(points: &[Point]) -> bool {
    let quarter = points.len() / 4;
    let least = |part: &[Point]| part.iter().map(|point| point.bytes).fold(f64::INFINITY, f64::min);
    let (then, now) = (least(&points[quarter..2 * quarter]), least(&points[points.len() - quarter..]));
    quarter > 0 && (now - then).abs() > MOVED_SHARE * then
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::BytesPerStep;
    use crate::slope::judge;
    use rstest::rstest;

    /// 200 steps of what is held.
    fn course(held: impl Fn(u32) -> f64) -> Vec<Point> {
        (1..=200).map(|step| Point { step: f64::from(step), bytes: held(step) }).collect()
    }

    fn of(shape: &str) -> Vec<Point> {
        match shape {
            "grows" => course(|step| 1e6 + 7000.0 * f64::from(step)),
            "stairs" => course(|step| 1e6 + 70_000.0 * f64::from((step - 1) / 20)),
            "moves" => course(|step| 800.0 + f64::from(step / 2)),
            _ => course(|step| 1e6 + f64::from(step % 3)),
        }
    }

    #[rstest]
    #[case::our_code("rss_bytes", &[("heap_bytes", "grows"), ("rss_bytes", "grows")], Cause::Held)]
    #[case::the_heap_itself("heap_bytes", &[("heap_bytes", "grows"), ("rss_bytes", "flat")], Cause::Held)]
    #[case::a_buffer_beside("rss_bytes", &[("heap_bytes", "flat"), ("rss_bytes", "grows")], Cause::Native)]
    #[case::unseen_by_the_framework("rss_bytes", &[("tracked_bytes", "flat"), ("rss_bytes", "grows")], Cause::Native)]
    #[case::blocks_move("rss_bytes", &[("heap_bytes", "flat"), ("heap_blocks", "moves"), ("rss_bytes", "grows")], Cause::Fragmentation)]
    #[case::blocks_rest("rss_bytes", &[("heap_bytes", "flat"), ("heap_blocks", "flat"), ("rss_bytes", "grows")], Cause::Native)]
    #[case::nothing_beside("rss_bytes", &[("rss_bytes", "grows")], Cause::Unknown)]
    #[case::the_pool("device_reserved_bytes", &[("device_in_use_bytes", "flat"), ("device_reserved_bytes", "grows")], Cause::Pool)]
    #[case::the_pool_is_asked("device_reserved_bytes", &[("device_in_use_bytes", "grows"), ("device_reserved_bytes", "grows")], Cause::Held)]
    #[case::beside_the_pool("device_process_bytes", &[("device_in_use_bytes", "flat"), ("device_reserved_bytes", "flat"), ("device_process_bytes", "grows")], Cause::Native)]
    #[case::by_the_pool("device_process_bytes", &[("device_in_use_bytes", "flat"), ("device_reserved_bytes", "grows"), ("device_process_bytes", "grows")], Cause::Pool)]
    #[case::every_epoch("heap_bytes", &[("heap_bytes", "stairs")], Cause::PerEpoch)]
    fn what_grows_and_what_does_not_tell_the_cause(
        #[case] name: &str,
        #[case] shapes: &[(&str, &str)],
        #[case] cause: Cause,
    ) {
        let lanes: Vec<_> = shapes.iter().map(|(name, shape)| (*name, of(shape))).collect();
        let slopes: Vec<_> = lanes.iter().map(|(_, points)| judge(points, BytesPerStep(1000.0))).collect();
        let lanes: Vec<Lane<'_>> =
            lanes.iter().zip(&slopes).map(|((name, points), slope)| Lane { name, points, slope }).collect();
        let edges: Vec<f64> = (1..10).map(|epoch| f64::from(epoch * 20)).collect();
        let found = attribute(name, &lanes, &edges).unwrap();
        assert_eq!(found.cause, cause, "{found}");
    }

    #[test]
    fn the_words_name_the_lanes_and_the_step() {
        let (grows, flat) = (of("grows"), of("flat"));
        let slope = |points: &[Point]| judge(points, BytesPerStep(1000.0));
        let (up, level) = (slope(&grows), slope(&flat));
        let lanes = [
            Lane { name: "rss_bytes", points: &grows, slope: &up },
            Lane { name: "tracked_bytes", points: &flat, slope: &level },
        ];
        let words = attribute("rss_bytes", &lanes, &[]).unwrap().to_string();
        assert!(
            words.starts_with("native: ") && words.contains("; did not: tracked_bytes; from step "),
            "{words}"
        );
        assert_eq!(attribute("tracked_bytes", &lanes, &[]), None);
    }
}
