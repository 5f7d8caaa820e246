//! The scenarios that `list` and `explain` show: ours, and the repository's own.

use std::path::PathBuf;

use clap::Args;
use traintrue::config::{Config, ConfigError};
use traintrue::scenario::Catalogue;

#[derive(Args, Debug)]
pub struct CatalogueArgs {
    /// A folder of your own scenarios, beside ours; by default the one that traintrue.toml names.
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
}

impl CatalogueArgs {
    /// Reads them.
    pub fn load(&self) -> Result<Catalogue, ConfigError> {
        let folder = match &self.scenarios {
            Some(folder) => Some(folder.clone()),
            None => Config::find(None)?.and_then(|config| config.scenarios),
        };
        Ok(Catalogue::load(folder.as_deref())?)
    }
}
