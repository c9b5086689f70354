//! What runs of all modes that load a server are told.

use crate::{load::DriverKind, report::Output};
use clap::Args;
use serde::Serialize;

/// How a run is made, and where its result goes.
#[derive(Args, Serialize)]
pub(crate) struct Manner {
    /// How to speak to the kernel.
    #[arg(long, value_enum, default_value_t = DriverKind::Poll)]
    pub(crate) driver: DriverKind,
    /// Makes the run the same as another one, in what is left to chance.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    #[serde(skip)]
    pub(crate) output: Output,
}

impl Manner {
    /// The one that was asked for, or any.
    pub(crate) fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| fastrand::u64(..))
    }
}
