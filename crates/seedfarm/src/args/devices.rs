//! What to render on.

use clap::Args;
use seedfarm_engine::DeviceSpec;

/// The devices of a worker.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Rendering")]
pub struct DeviceArgs {
    /// Devices to render on, separated by commas: cpu, cuda:0, ...; without it, all of this machine
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        env = "SEEDFARM_DEVICES",
        hide_env_values = true
    )]
    pub devices: Vec<DeviceSpec>,

    /// Threads that render on the processor; 0 is one for each core
    #[arg(long, value_name = "N", default_value_t = 0, env = "SEEDFARM_THREADS", hide_env_values = true)]
    pub threads: usize,

    /// Most images in one batch; pixels do not depend on it. Without it, 1 on a processor, 4 on a GPU
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub batch: Option<u32>,

    /// Send small pictures of images in the making, for 'watch --previews'; each costs a decoder's pass
    #[arg(long, env = "SEEDFARM_PREVIEWS", hide_env_values = true)]
    pub previews: bool,
}
