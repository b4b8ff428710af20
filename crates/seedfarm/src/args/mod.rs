//! Options that several subcommands share.

pub mod adapters;
pub mod client;
pub mod data;
pub mod devices;
pub mod extras;
pub mod fetching;
pub mod models;
pub mod owner;
pub mod settings;
pub mod storage;
pub mod terms;
pub mod timing;

pub use client::ClientArgs;
pub use data::DataArgs;
pub use devices::DeviceArgs;
pub use extras::ExtraArgs;
pub use fetching::FetchArgs;
pub use models::ModelArgs;
pub use owner::OwnerArgs;
pub use settings::{ArithmeticArgs, SettingsArgs};
pub use storage::{DatabaseArgs, StorageArgs};
pub use terms::TermsArgs;
pub use timing::TimingArgs;
