//! Chooses a device before anything is loaded: the first in the plan that is available and has room for the model.

use std::fmt;

use traintrue_protocol::lanes::{self, Lanes, heap};
use traintrue_protocol::plan::{DeviceChoice, Plan};
use traintrue_protocol::trace::event::Adapted;
use traintrue_protocol::vocabulary::Adaptation;

use crate::device::{Device, DeviceError};
use crate::model::{Model, SizeError};
use crate::prediction::VALUE_BYTES;

/// The bytes that training a model takes before the first activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// All tensors.
    pub parameter_bytes: u64,
    /// AdamW keeps two moments per trainable tensor.
    pub moment_bytes: u64,
    /// One gradient per trainable tensor, while a window is open.
    pub gradient_bytes: u64,
}

impl Needs {
    fn of(plan: &Plan) -> Result<Self, SizeError> {
        let tensors = Model::draw(plan)?.tensors;
        let bytes = |trained: bool| -> u64 {
            let counted = tensors.iter().filter(|it| !trained || it.trainable);
            counted.map(|it| VALUE_BYTES * it.elements()).sum()
        };
        let (parameter_bytes, trained) = (bytes(false), bytes(true));
        Ok(Self { parameter_bytes, moment_bytes: 2 * trained, gradient_bytes: trained })
    }

    fn bytes(self) -> u64 {
        self.parameter_bytes + self.moment_bytes + self.gradient_bytes
    }
}

/// Why a device is given up. An enum, because a decision must not depend on the words of a message.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Refusal {
    #[error(transparent)]
    NotThere(#[from] DeviceError),
    #[error(transparent)]
    TooSmall(#[from] TooSmall),
}

/// A model that is too large for a device.
#[derive(Debug, thiserror::Error)]
#[error(
    "the model needs {} B ({} B of parameters, {} B of moments, {} B of gradients), and there is room for {room_bytes} B",
    .needs.bytes(), .needs.parameter_bytes, .needs.moment_bytes, .needs.gradient_bytes
)]
pub struct TooSmall {
    /// What the model needs.
    pub needs: Needs,
    /// What the device has.
    pub room_bytes: u64,
}

/// A request that cannot be placed, because the plan or the program is wrong for every device.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PlacementError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Size(#[from] SizeError),
    #[error(
        "plan: devices: budget_bytes on the CPU needs a program that counts its heap: traintrue_protocol::count_heap!()"
    )]
    Uncounted,
    #[error("plan: devices: there is none")]
    NoneNamed,
}

/// Every device of the plan was given up.
#[derive(Debug, thiserror::Error)]
#[error("{last}: {reason}; the plan names no other device")]
pub struct NoDevice {
    last: String,
    reason: Refusal,
    /// The devices before the last one.
    pub left: Left,
}

/// The part of a placement.
#[derive(Clone, Copy)]
pub struct PlacementParts {
    /// Whether a model with these needs fits into `room_bytes`.
    pub fits: fn(&Plan, Needs, room_bytes: u64) -> Result<(), TooSmall>,
}

impl Default for PlacementParts {
    fn default() -> Self {
        Self { fits }
    }
}

/// By arithmetic. A trial load would leave memory behind in pools and caches.
pub fn fits(_plan: &Plan, needs: Needs, room_bytes: u64) -> Result<(), TooSmall> {
    if needs.bytes() <= room_bytes { Ok(()) } else { Err(TooSmall { needs, room_bytes }) }
}

/// The devices that were given up, with memory lanes before the first was tried and after each.
#[derive(Debug, Default)]
pub struct Left {
    /// Lanes before the first device was tried.
    pub before: Lanes,
    /// Per device that was given up: its event, and the lanes after it.
    pub moves: Vec<(Option<Adapted>, Lanes)>,
}

/// A device that is available and has room for the model.
#[derive(Debug)]
pub struct Placed {
    /// The device.
    pub device: Device,
    /// The bytes that training may hold there.
    pub budget_bytes: Option<u64>,
    /// The devices before this one.
    pub left: Left,
}

/// Chooses among the plan's devices; a plan that names none gets `own`. The outer error refuses the request. The inner one
/// is a result of the run: its trace says which devices were tried.
pub fn place(
    plan: &Plan,
    own: Device,
    parts: PlacementParts,
    adapted: fn(Adapted) -> Option<Adapted>,
) -> Result<Result<Placed, NoDevice>, PlacementError> {
    if plan.devices.is_empty() {
        own.probe()?;
        return Ok(Ok(Placed { device: own, budget_bytes: None, left: Left::default() }));
    }
    let needs = Needs::of(plan)?;
    let mut left = Left { before: lanes::of_this_process(), moves: Vec::new() };
    let mut choices = plan.devices.iter().peekable();
    while let Some(choice) = choices.next() {
        let reason = match try_on(choice, own, plan, needs, parts) {
            Ok(device) => {
                let budget_bytes = choice.budget_bytes;
                counts_what_it_limits(device, budget_bytes)?;
                return Ok(Ok(Placed { device, budget_bytes, left }));
            }
            Err(reason) => reason,
        };
        let Some(next) = choices.peek() else {
            return Ok(Err(NoDevice { last: choice.shown(&own).to_string(), reason, left }));
        };
        let move_on = moved(&choice.shown(&own), &next.shown(&own), &reason);
        left.moves.push((adapted(move_on), lanes::of_this_process()));
    }
    Err(PlacementError::NoneNamed)
}

fn try_on(
    choice: &DeviceChoice,
    own: Device,
    plan: &Plan,
    needs: Needs,
    parts: PlacementParts,
) -> Result<Device, Refusal> {
    let device = choice.device.as_deref().map_or(Ok(own), str::parse::<Device>)?;
    device.probe()?;
    let free = device.free_bytes()?;
    if let Some(room_bytes) = choice.budget_bytes.into_iter().chain(free).min() {
        (parts.fits)(plan, needs, room_bytes)?;
    }
    Ok(device)
}

/// Refuses a budget that this program could not enforce.
fn counts_what_it_limits(device: Device, budget_bytes: Option<u64>) -> Result<(), PlacementError> {
    let uncounted = device.is_on_heap() && budget_bytes.is_some() && heap::now().is_none();
    if uncounted { Err(PlacementError::Uncounted) } else { Ok(()) }
}

fn moved(from: &dyn fmt::Display, to: &dyn fmt::Display, reason: &Refusal) -> Adapted {
    Adapted {
        what: Adaptation::Device,
        from: from.to_string().into(),
        to: to.to_string().into(),
        accumulation: None,
        reason: reason.to_string(),
    }
}
