//! Every invariant, in the order that `list` shows them.

use crate::artefact;
use crate::invariants::{device, memory, probes, protocol, recorded, resume, training};
use crate::rule::Rule;

/// Every invariant, in the order that `list` shows them.
pub static RULES: &[&Rule] = &[
    &protocol::answers::RULE,
    &protocol::ends::RULE,
    &training::ledger::RULE,
    &training::window::RULE,
    &training::schedule::RULE,
    &training::batch::RULE,
    &training::loss_scale::RULE,
    &training::clip::RULE,
    &training::finite::RULE,
    &training::frozen::RULE,
    &training::trainable::RULE,
    &training::moves::RULE,
    &training::evaluation_pure::RULE,
    &training::evaluation_mean::RULE,
    &recorded::samples::RULE,
    &recorded::window::RULE,
    &recorded::mode::RULE,
    &recorded::optimizer::RULE,
    &recorded::evaluation::RULE,
    &recorded::clip::RULE,
    &recorded::loss_scale::RULE,
    &recorded::schedule::RULE,
    &recorded::rate::RULE,
    &probes::cache::RULE,
    &probes::neighbours::ROWS,
    &probes::neighbours::WIDTH,
    &probes::neighbours::CACHE,
    &resume::reload_outputs::RULE,
    &resume::reload_sets::RULE,
    &resume::seam::RULE,
    &training::purity::RULE,
    &training::repeat::RULE,
    &training::partition::RULE,
    &resume::checkpoints::OLD_OR_NEW,
    &resume::checkpoints::DAMAGE,
    &memory::peak::RULE,
    &memory::heap::RULE,
    &memory::process::RULE,
    &memory::breaker::RULE,
    &memory::estimate::RULE,
    &memory::unload::RULE,
    &device::fallback::RULE,
    &device::oom::BY_TYPE,
    &device::oom::LEAVES,
    &artefact::rules::log::RULE,
    &artefact::rules::epochs::RULE,
    &artefact::rules::best::RULE,
    &artefact::rules::continues::RULE,
    &artefact::rules::adapter::SHAPES,
    &artefact::rules::adapter::SCALE,
    &artefact::rules::adapter::LEARNS,
    &artefact::rules::targets::TARGETS,
    &artefact::rules::targets::MODULES_TO_SAVE,
    &artefact::rules::tensors::FINITE,
    &artefact::rules::tensors::ZERO,
    &artefact::rules::shards::RULE,
    &artefact::rules::moves::SAME,
    &artefact::rules::moves::MOVES,
];

/// The invariant of that name.
pub fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().copied().find(|rule| rule.name == name)
}
