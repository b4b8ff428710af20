//! Options that several subcommands share.

pub mod adapters;
pub mod client;
pub mod data;
pub mod devices;
pub mod extras;
pub mod models;
pub mod settings;
pub mod storage;
pub mod timing;

pub use client::ClientArgs;
pub use data::DataArgs;
pub use devices::DeviceArgs;
pub use extras::ExtraArgs;
pub use models::ModelArgs;
pub use settings::{ArithmeticArgs, SettingsArgs};
pub use storage::{DatabaseArgs, StorageArgs};
pub use timing::TimingArgs;
