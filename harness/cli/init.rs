//! `traintrue init`: the first files of a repository that wants to be judged.

use std::path::{Path, PathBuf};

use clap::Args;
use traintrue::init::{Written, find, write};
use traintrue_protocol::exit::Exit;

use crate::{Done, output};

/// Writes `traintrue.toml` and a job for GitHub, for the training scripts that it finds.
///
/// A file that is there stays as it is.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// The repository.
    #[arg(default_value = ".", value_name = "DIR")]
    root: PathBuf,
}

pub fn init(args: &InitArgs) -> Done {
    let wrong = |error| format!("{}: {error}", args.root.display());
    let found = find(&args.root).map_err(wrong)?;
    let mut text = match found.scripts.as_slice() {
        [] => "found no script that trains with torch: write its name into the job\n".to_owned(),
        scripts => format!("found {}\n", scripts.iter().map(|it| shown(it)).collect::<Vec<_>>().join(", ")),
    };
    for written in write(&args.root, &found).map_err(wrong)? {
        text += &match written {
            Written::New(path) => format!("wrote {}\n", shown(&path)),
            Written::Left(path) => format!("left {} as it was\n", shown(&path)),
        };
    }
    if let Some(script) = found.scripts.first() {
        text += &format!("try it here: traintrue record -- python {}\n", shown(script));
    }
    output::write(&text)?;
    Ok(Exit::Held)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
