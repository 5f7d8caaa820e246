//! `traintrue describe`: the reference trainer's description, on one line of JSON as every trainer gives it.

use clap::Args;
use traintrue_protocol::exit::Exit;
use traintrue_reference::Device;

use crate::{Done, output};

#[derive(Args, Debug)]
pub struct DescribeArgs {
    /// Describe the trainer only if this device is available. Otherwise say why it is not, and exit with status 2.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

pub fn describe(args: &DescribeArgs) -> Done {
    if let Some(device) = &args.device {
        device.parse::<Device>()?.probe()?;
    }
    output::write(&(serde_json::to_string(&traintrue_reference::describe())? + "\n"))?;
    Ok(Exit::Held)
}
