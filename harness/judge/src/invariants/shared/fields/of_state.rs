//! What a field of the state that came back otherwise says of a trainer.

use traintrue_protocol::vocabulary::Component;

/// The component that restores a field of the state, and what a difference in it means.
pub(crate) fn of_state(field: &str) -> (Component, &'static str) {
    match field {
        "cursor" => (
            Component::Cursor,
            "the position in the data was not restored: training continues at another micro-batch",
        ),
        "window" => {
            (Component::Boundary, "the partial window was lost: its micro-batches never reach an update")
        }
        "step" => (Component::Step, "the number of updates was not restored"),
        "schedule_step" => (Component::Schedule, "the scheduler's step was not restored"),
        "window_digest" => {
            (Component::Window, "the gradients of the partial window did not come back as they were saved")
        }
        "tensors" => (Component::AdapterLoader, "the loaded model does not have the tensors that were saved"),
        "trainable" => {
            (Component::AdapterLoader, "a tensor that was trainable is frozen after the load, or the reverse")
        }
        "optimized" => (Component::OptimizerGroups, "the optimizer holds other tensors than before the save"),
        "adapter scale" => (
            Component::AdapterLoader,
            "the adapters' scale is no tensor, and came back another: save r, alpha and rsLoRA with the tensors, and read them",
        ),
        "values" => (Component::AdapterLoader, "a tensor has other values than were saved"),
        "values of another" => (
            Component::AdapterLoader,
            "a tensor came back with the values of another: check how names or places are matched",
        ),
        "moments" => (Component::Moments, "the optimizer's moments did not come back as they were saved"),
        "moments of another" => (
            Component::Moments,
            "a tensor came back with the moments of another: the optimizer's state is matched by place, and the order changed",
        ),
        "rng" => (
            Component::Rng,
            "the random stream did not come back as it was saved: dropout will draw other units",
        ),
        "best" => {
            (Component::CheckpointSections, "the best evaluation so far did not come back as it was saved")
        }
        _ => (Component::CheckpointSections, "a part of the training state was not restored"),
    }
}
