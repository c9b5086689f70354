//! A framework for realtime servers: WebSocket (RFC 6455) on a reactor that is as fast as the
//! kernel.
//!
//! Write a [`Handler`], give it to a [`Server`]:
//!
//! ```no_run
//! use quelea::{Conn, Handler, Message, Server};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type State = ();
//!
//!     fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
//!         conn.send(message);
//!     }
//! }
//!
//! fn main() -> quelea::Result<()> {
//!     Server::new(|_worker| Echo).listen("127.0.0.1:9001")?.run()
//! }
//! ```
//!
//! The protocol itself is in [`quelea_core`], without any I/O.
#![deny(unsafe_code)]

mod address;
mod admission;
mod adopt;
mod app;
mod config;
mod context;
mod drain;
#[cfg(feature = "driver")]
pub mod driver;
#[cfg(not(feature = "driver"))]
#[allow(unreachable_pub, reason = "public with the feature `driver`")]
mod driver;
mod error;
mod handle;
mod handler;
mod http;
mod hub;
mod id;
mod listen;
mod mail;
pub mod metrics;
#[cfg(feature = "metrics")]
mod monitor;
mod parts;
mod protocol;
#[cfg(feature = "signals")]
mod signals;
#[cfg(feature = "sim")]
pub mod sim;
mod table;
mod throttle;
mod upgrade;
mod worker;

pub use address::{ListenAddress, PeerAddress};
pub use adopt::{AdoptError, AdoptRefusal, Adoptable, Adopted, Adoption};
pub use app::{Server, Worker};
pub use config::{Config, DriverKind, Overflow};
pub use context::Conn;
pub use drain::Drain;
pub use error::{Error, Result};
pub use handle::Handle;
pub use handler::{Cause, Closed, Handler};
pub use http::{Content, Request, Response};
pub use hub::Counts;
pub use id::ConnId;
#[cfg(feature = "metrics")]
pub use monitor::MetricsServer;
#[cfg(feature = "deflate")]
pub use quelea_core::deflate;
pub use quelea_core::{
    CloseCode, Message, MessageKind, Violation,
    handshake::{InvalidOrigin, Origin, OriginPolicy},
    http::{HeadLimits, Status},
};
pub use table::{SendStatus, SubscribeStatus};
pub use upgrade::{Accept, Upgrade};
