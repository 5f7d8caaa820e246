//! Why a lane grows: which lanes of the run grew with it, which did not, and where.
//!
//! A lane is one counter, and each counter counts only its own memory. Growth in one lane and not in another is
//! therefore between the two: bytes of the process that no counter of the program counts are native; bytes that a pool
//! has reserved and nothing uses are the pool's.

use std::fmt;

use traintrue_protocol::vocabulary::Lane;

use super::series::Point;
use super::slope::{Slope, SlopeVerdict};

/// A lane that some trainers write beside the protocol's: live allocations on a device.
pub(crate) const DEVICE_ALLOCATIONS: &str = "device_allocations";
/// If at least this share of a lane's growth is at the edges of epochs, something is kept per epoch.
const EDGE_SHARE: f64 = 0.8;
/// The number of blocks changes if its minimum in the last quarter differs from that in the second quarter by this
/// share.
const MOVED_SHARE: f64 = 0.01;

/// One lane of a run, with its slope.
#[derive(Clone, Copy, Debug)]
pub struct LaneSlope<'a> {
    /// Its name, such as `heap_bytes`.
    pub name: &'a str,
    /// What was measured.
    pub points: &'a [Point],
    /// The verdict on its growth.
    pub slope: &'a Slope,
}

/// What the growth can come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// Something is kept per epoch: the lane rises at the edges of epochs and is flat between them.
    PerEpoch,
    /// The program's own code references what it allocated.
    Held,
    /// A buffer outside all counters: the process grows and its counted memory does not.
    Native,
    /// As native, but the number of heap blocks changes while their bytes do not: it may be fragmentation.
    Fragmentation,
    /// The device's pool reserves memory that nothing uses.
    Pool,
    /// The other lanes do not say.
    Unknown,
}

impl Cause {
    /// The cause as reports show it.
    pub fn words(self) -> &'static str {
        match self {
            Self::PerEpoch => {
                "something is kept at every epoch's edge: the lane rises there and is flat in between"
            }
            Self::Held => "something in the process still references what was allocated",
            Self::Native => {
                "native: the process grows and its counted memory does not, so the growth is in a buffer outside the \
                 framework"
            }
            Self::Fragmentation => {
                "fragmentation, or a native buffer: the process grows, the heap's bytes do not, and the number of its \
                 blocks changes"
            }
            Self::Pool => "the pool: it reserves more memory while no more is in use",
            Self::Unknown => "no other lane shows the cause",
        }
    }
}

/// Why a lane grows.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribution {
    /// What the growth can come from.
    pub cause: Cause,
    /// The other lanes that grew with it.
    pub grew: Vec<String>,
    /// The other lanes that did not.
    pub flat: Vec<String>,
    /// The step at which the persistent growth begins.
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

/// Why the lane called `name` grows, judged by the other lanes of its run. `edges` are the updates done at each end of
/// an epoch. None if there is no such lane, or if it is not shown to grow.
pub fn attribute(name: &str, lanes: &[LaneSlope<'_>], edges: &[f64]) -> Option<Attribution> {
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

/// Whether a lane counts what the program itself holds on the host.
fn counts_host(lane: &str) -> bool {
    matches!(lane.parse(), Ok(Lane::HeapBytes | Lane::TrackedBytes | Lane::TrackedTensors))
}

/// Whether a lane counts what the program itself holds on a device.
fn counts_device(lane: &str) -> bool {
    lane == Lane::DeviceInUseBytes.name() || lane == DEVICE_ALLOCATIONS
}

/// Whether a lane counts what the pool of a device has taken, used or not.
fn counts_pool(lane: &str) -> bool {
    lane == Lane::DeviceReservedBytes.name()
}

fn cause(name: &str, lanes: &[LaneSlope<'_>]) -> Cause {
    let counted = |counts: fn(&str) -> bool| -> Vec<&LaneSlope<'_>> {
        lanes.iter().filter(|lane| lane.name != name && counts(lane.name)).collect()
    };
    // All of them must be shown flat: one lane that is not judged could be the one that grows.
    let shown = |lanes: &[&LaneSlope<'_>]| {
        let grew = lanes.iter().any(|lane| grows(lane));
        let flat = !lanes.is_empty() && lanes.iter().all(|lane| lane.slope.verdict == SlopeVerdict::Within);
        (grew, flat)
    };
    let blocks_move = || lanes.iter().any(|lane| lane.name == Lane::HeapBlocks.name() && moves(lane.points));
    match name.parse() {
        Ok(Lane::HeapBlocks) => Cause::Held,
        Ok(Lane::RssBytes) => match shown(&counted(counts_host)) {
            (true, _) => Cause::Held,
            (_, true) if blocks_move() => Cause::Fragmentation,
            (_, true) => Cause::Native,
            _ => Cause::Unknown,
        },
        Ok(Lane::DeviceReservedBytes) => match shown(&counted(counts_device)) {
            (true, _) => Cause::Held,
            (_, true) => Cause::Pool,
            _ => Cause::Unknown,
        },
        Ok(Lane::DeviceProcessBytes) => {
            match (shown(&counted(counts_device)), shown(&counted(counts_pool))) {
                ((true, _), _) => Cause::Held,
                ((_, true), (true, _)) => Cause::Pool,
                ((_, true), (_, true)) => Cause::Native,
                _ => Cause::Unknown,
            }
        }
        _ if counts_host(name) || counts_device(name) => Cause::Held,
        _ => Cause::Unknown,
    }
}

fn grows(lane: &LaneSlope<'_>) -> bool {
    lane.slope.verdict == SlopeVerdict::Exceeds
}

/// Whether at least two epoch edges together account for most of the lane's growth.
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

/// Whether a count has changed for good since the second quarter.
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
        let lanes: Vec<LaneSlope<'_>> = lanes
            .iter()
            .zip(&slopes)
            .map(|((name, points), slope)| LaneSlope { name, points, slope })
            .collect();
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
            LaneSlope { name: "rss_bytes", points: &grows, slope: &up },
            LaneSlope { name: "tracked_bytes", points: &flat, slope: &level },
        ];
        let words = attribute("rss_bytes", &lanes, &[]).unwrap().to_string();
        assert!(
            words.starts_with("native: ") && words.contains("; did not: tracked_bytes; from step "),
            "{words}"
        );
        assert_eq!(attribute("tracked_bytes", &lanes, &[]), None);
    }
}
