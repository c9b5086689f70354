//! A framework for realtime servers: a reactor per core, WebSocket first.
#![allow(dead_code, unused_imports)] // What uses the driver comes with the worker.
#![forbid(unsafe_code)]

mod address;
mod driver;
mod error;
mod id;
mod parts;

pub use address::{ListenAddress, PeerAddress};
pub use error::{Error, Result};
pub use id::ConnId;
