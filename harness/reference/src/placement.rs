//! Chooses a device before anything is loaded: the first of the plan's that is there, and that the model fits.

use std::fmt;

use traintrue_protocol::lanes::{self, Lanes, heap};
use traintrue_protocol::plan::{DeviceChoice, Plan};
use traintrue_protocol::trace::event::Adapted;
use traintrue_protocol::vocabulary::Adaptation;

use crate::device::{Device, DeviceError};
use crate::error::TrainError;
use crate::model::Model;

/// Bytes of an f32.
const VALUE_BYTES: u64 = 4;

/// What a model needs to be trained, before a single activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// All tensors.
    pub parameter_bytes: u64,
    /// AdamW keeps two for each that learns.
    pub moment_bytes: u64,
    /// One for each that learns, for as long as a window is open.
    pub gradient_bytes: u64,
}

impl Needs {
    fn of(plan: &Plan) -> Result<Self, TrainError> {
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

/// Why a device is given up. An enum: what is done about it never hangs on the words of a message.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Refusal {
    #[error(transparent)]
    NotThere(#[from] DeviceError),
    #[error(transparent)]
    TooSmall(#[from] TooSmall),
}

/// A model that a device has no room for.
#[derive(Debug, thiserror::Error)]
#[error(
    "the model needs {} B ({} B of parameters, {} B of moments, {} B of gradients), and there is room for {room_bytes} B",
    .needs.bytes(), .needs.parameter_bytes, .needs.moment_bytes, .needs.gradient_bytes
)]
pub struct TooSmall {
    /// What it needs.
    pub needs: Needs,
    /// What there is.
    pub room_bytes: u64,
}

/// No device of the plan could be had.
#[derive(Debug, thiserror::Error)]
#[error("{last}: {reason}; the plan names no other device")]
pub struct NoDevice {
    last: String,
    reason: Refusal,
    /// Those before it.
    pub left: Left,
}

/// The parts of a placement.
#[derive(Clone, Copy)]
pub struct PlacementParts {
    /// Whether a model that needs so much fits into so much room.
    pub fits: fn(&Plan, Needs, room_bytes: u64) -> Result<(), TooSmall>,
    /// What the trace says of a device that was given up.
    pub tells: fn(Adapted) -> Option<Adapted>,
}

impl Default for PlacementParts {
    fn default() -> Self {
        Self { fits, tells: Some }
    }
}

/// By arithmetic: nothing is loaded to find out.
pub fn fits(_plan: &Plan, needs: Needs, room_bytes: u64) -> Result<(), TooSmall> {
    if needs.bytes() <= room_bytes { Ok(()) } else { Err(TooSmall { needs, room_bytes }) }
}

/// The devices that were given up, and the memory before the first was tried and after each.
#[derive(Debug, Default)]
pub struct Left {
    /// Before.
    pub before: Lanes,
    /// What the trace says of each, and the memory after it.
    pub moves: Vec<(Option<Adapted>, Lanes)>,
}

/// A device that is there, and that the model fits.
pub struct Placed {
    /// The device.
    pub device: Device,
    /// What may be held there.
    pub budget_bytes: Option<u64>,
    /// Those before it.
    pub left: Left,
}

/// Chooses among the plan's devices; without any, the trainer's own is the one.
pub fn place(plan: &Plan, own: Device, parts: PlacementParts) -> Result<Placed, TrainError> {
    if plan.devices.is_empty() {
        own.probe()?;
        return Ok(Placed { device: own, budget_bytes: None, left: Left::default() });
    }
    let needs = Needs::of(plan)?;
    let mut left = Left { before: lanes::of_this_process(), moves: Vec::new() };
    let mut choices = plan.devices.iter().peekable();
    while let Some(choice) = choices.next() {
        let reason = match try_on(choice, own, plan, needs, parts) {
            Ok(device) => {
                let budget_bytes = choice.budget_bytes;
                counts_what_it_limits(device, budget_bytes)?;
                return Ok(Placed { device, budget_bytes, left });
            }
            Err(reason) => reason,
        };
        let Some(next) = choices.peek() else {
            return Err(NoDevice { last: choice.shown(&own).to_string(), reason, left }.into());
        };
        let adapted = adapted(&choice.shown(&own), &next.shown(&own), &reason);
        left.moves.push(((parts.tells)(adapted), lanes::of_this_process()));
    }
    Err(TrainError::Unsupported { field: "devices", problem: "there is none".to_owned() })
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

/// A budget that nobody holds training to is no budget.
fn counts_what_it_limits(device: Device, budget_bytes: Option<u64>) -> Result<(), TrainError> {
    if device == Device::Ndarray && budget_bytes.is_some() && heap::now().is_none() {
        let problem =
            "budget_bytes on the CPU needs a program that counts its heap: traintrue_protocol::count_heap!()";
        return Err(TrainError::Unsupported { field: "devices", problem: problem.to_owned() });
    }
    Ok(())
}

fn adapted(from: &dyn fmt::Display, to: &dyn fmt::Display, reason: &Refusal) -> Adapted {
    Adapted {
        what: Adaptation::Device,
        from: from.to_string().into(),
        to: to.to_string().into(),
        accumulation: None,
        reason: reason.to_string(),
    }
}
