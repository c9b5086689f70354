//! Simulation: a server's workers and its clients in one thread, on a network and a clock that are
//! made up, with faults by a seed (feature `sim`).
//!
//! The workers, protocols, topics, timers and mailboxes are the real ones; only the sockets are not. What
//! happens depends on the seed alone: a run that fails can be had again, as often as it takes.
//!
//! ```
//! use quelea::{
//!     Config, Conn, Handler, Message,
//!     sim::{ClientEvent, Simulation},
//! };
//! use std::time::Duration;
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
//! let mut sim = Simulation::new(1, Config::default(), |_worker| Echo)?;
//! let client = sim.connect("/")?;
//! sim.run_for(Duration::from_secs(1));
//! sim.send(client, "hello");
//! sim.run_for(Duration::from_secs(1));
//! let events: Vec<_> = sim.take_events(client).into_iter().map(|(_, event)| event).collect();
//! assert_eq!(events, [ClientEvent::Open { subprotocol: None }, ClientEvent::Text("hello".into())]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`explore`] runs a scenario with many seeds and all [`Faults`], and makes a failure as small as
//! it can.

mod client;
mod explore;
mod simulation;

#[cfg(mutants)]
pub use crate::parts::mutant::{Mutant, plant};
pub use crate::{
    driver::sim::{Fault, Faults, UnknownFault},
    table::Residue,
};
pub use client::{ClientEvent, ClientOptions};
pub use explore::{Failure, Plan, explore};
pub use quelea_core::http::FieldError;
pub use simulation::{ClientId, Clock, Simulation};
