//! Checkpoints at any micro-batch: everything that the next update depends on, written so that a crash leaves the old
//! checkpoint or the new one.

mod files;
mod format;
mod peft;
mod store;

pub use files::{DEATH_STATUS, Disk, Dying, Files};
pub use format::{Content, NamedTensor, TrainerRecord, WindowRecord};
#[cfg(test)]
pub use format::{from_safetensors, to_safetensors};
pub use peft::{ADAPTER, AdapterConfig, AdapterFile, to_peft};
pub use store::{
    CheckpointError, Found, Store, StoreParts, files_of, folder_name, save_atomically, step, write_files,
    write_manifest,
};
