//! Heap peaks: begun per window and per forward pass, read at each update, and predicted.

use std::cell::Cell;
use std::rc::Rc;

use traintrue_memory::estimate;
use traintrue_protocol::Recorder;
use traintrue_protocol::lanes::{Lanes, heap};
use traintrue_protocol::plan::{Boundary, Plan};

use crate::breaker::Peaks;

/// The peaks of one run.
pub struct Meter {
    /// Whether the plan limits memory.
    limited: bool,
    /// Whether the plan asks for the peak of a forward pass.
    samples_forwards: bool,
    peaks: Option<Peaks>,
    /// For the micro-batch since the last peak was begun. The recorder's lanes read it.
    prediction: Rc<Cell<Option<estimate::Peaks>>>,
}

impl Meter {
    /// Meters the run of `recorder`, whose samples get the lanes of the device and the predicted peak. Called before the
    /// model is built: a prediction counts from the bytes that the heap holds now.
    pub fn attach(recorder: &mut Recorder, plan: &Plan, of_device: impl Fn() -> Lanes + 'static) -> Self {
        let before_model_bytes = heap::now().map_or(0, |heap| heap.bytes);
        let prediction = Rc::new(Cell::new(None));
        let predicted = Rc::clone(&prediction);
        recorder.sample_on_request(move |at| {
            let mut lanes = of_device();
            if let Some(bytes) = predicted.get().and_then(|peaks| peak_at(at, peaks)) {
                lanes.insert("estimate_bytes".to_owned(), Some(before_model_bytes + bytes));
            }
            lanes
        });
        let samples_forwards = plan.sample_memory.contains(&Boundary::Forward);
        Self { limited: plan.memory.is_some(), samples_forwards, peaks: None, prediction }
    }

    /// Begins the peak of a window, where the plan limits it.
    pub fn begin_window(&self) {
        if self.limited {
            heap::begin_peak();
        }
    }

    /// Begins the peak of a forward pass, where the plan asks for it. `predict` is kept for the sample that ends the peak.
    pub fn begin_forward(&self, predict: impl FnOnce() -> Option<estimate::Peaks>) {
        if self.samples_forwards {
            self.prediction.set(predict());
            // After the prediction, whose own memory is not the forward pass's.
            heap::begin_peak();
        }
    }

    /// Reads the peaks at an update. Called before its event is made: digests copy every parameter.
    pub fn read_at_update(&mut self) {
        self.peaks = heap::now().map(|heap| {
            let before = self.peaks.map_or(0, |peaks| peaks.run_bytes);
            Peaks {
                window_bytes: heap.peak_bytes,
                run_bytes: heap.peak_bytes.max(before),
                held_bytes: heap.bytes,
            }
        });
    }

    /// The peaks at the last update; none where the program does not count its heap.
    pub fn peaks(&self) -> Option<Peaks> {
        self.peaks
    }
}

/// The bytes that the model takes at the peak which a boundary ends.
fn peak_at(at: Boundary, peaks: estimate::Peaks) -> Option<u64> {
    match at {
        Boundary::Forward => Some(peaks.passes_bytes),
        Boundary::Update => Some(peaks.passes_bytes.max(peaks.update_bytes)),
        _ => None,
    }
}
