//! How to reach a coordinator, and with which token.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use seedfarm_runtime::{RuntimeError, secret};

use crate::args::DataArgs;
use crate::failure::Failure;

/// The coordinator and the right to talk to it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Coordinator")]
pub struct ClientArgs {
    /// Address of the coordinator, http:// or https://; several, separated by commas, stand in for one another
    #[arg(long, value_name = "URL", env = "SEEDFARM_COORDINATOR", hide_env_values = true)]
    #[arg(value_delimiter = ',', default_value = "http://127.0.0.1:7740")]
    pub coordinator: Vec<String>,

    /// Token that the coordinator asks for
    ///
    /// Without it, the token in the data folder is used, which works on the coordinator's own machine.
    #[arg(long, value_name = "TOKEN", env = "SEEDFARM_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// Trust this certificate authority (a PEM file) instead of the web's
    #[arg(long, value_name = "FILE", env = "SEEDFARM_TLS_CA", hide_env_values = true)]
    pub tls_ca: Option<PathBuf>,

    #[command(flatten)]
    pub data: DataArgs,
}

impl ClientArgs {
    /// The token given, or the one in the data folder's file `file`.
    ///
    /// # Errors
    /// If none was given and the file is not there or cannot be read.
    pub fn token(&self, file: &str) -> Result<String> {
        if let Some(token) = &self.token {
            return Ok(token.trim().to_owned());
        }
        let path = self.data.resolve()?.join(file);
        secret::load(&path).map_err(|error| match error {
            RuntimeError::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Failure::usage("NO_TOKEN", no_token(&path, file)).into()
            }
            RuntimeError::File { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                let way_out =
                    "run as the user who started the coordinator, or give --token or SEEDFARM_TOKEN";
                Failure::failed(
                    "NO_TOKEN",
                    format!("{} may not be read by this user: {way_out}", path.display()),
                )
                .into()
            }
            error => error.into(),
        })
    }
}

fn no_token(path: &std::path::Path, file: &str) -> String {
    format!(
        "no token: {} is not there; give --token or SEEDFARM_TOKEN with what stands in {file} in the \
         coordinator's data folder, or that folder itself with --data-dir",
        path.display()
    )
}
