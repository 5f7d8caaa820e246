//! What a trainer can be asked to do.

use super::words;

words! {
    /// What a trainer can do. A scenario that needs a capability which the trainer does not list is not judged, and says so.
    Capability, "capability" {
        Resume = "resume": "Saves everything that the next update depends on at `stop` and `save_every`, and goes on from `start`.",
        Weights = "weights": "Loads only the weights of a checkpoint (`start.what` = `weights`) and trains them afresh.",
        Evaluation = "evaluation": "Evaluates the plan's evaluation samples after every `evaluate_every` updates.",
        Adapters = "adapters": "Trains LoRA adapters over a frozen base model.",
        Heads = "heads": "Has an extra head beside the language model, such as an embedding projection.",
        Probes = "probes": "Runs the plan's probes: forward passes outside training whose outputs the trace shows.",
        Causal = "causal": "Trains a model of which each position sees only the tokens up to there: no encoder that sees the whole text.",
        Checkpointing = "checkpointing": "Recomputes activations in the backward pass when the plan asks for it.",
        Cache = "cache": "Has a key-value cache that the plan can switch on and off.",
        World = "world": "Takes one rank's shard of the data, and schedules as that rank of `world` would.",
        Ranks = "ranks": "Trains `together` with the other ranks of `world`, each a process of its own.",
        Contract = "contract": "Follows the conventions that a plan asks for in place of the trainer's own.",
        Memory = "memory": "Keeps to the plan's memory limit, and predicts the peak that it will need.",
        Devices = "devices": "Tries the plan's devices in order, and goes on to the next where the model does not fit.",
        Cycles = "cycles": "Loads, probes and unloads the plan's `cycles` of models before training.",
        Operations = "operations": "Does each operation of its model by itself when the plan asks for it, and tells its output and gradients.",
        FileFaults = "file-faults": "Counts its file operations while saving, and dies before a given one on request.",
    }
}
