//! What hostile and broken peers send, and what they get for it. Each test says what happens; that
//! it happens to nobody else is asked of a connection that does nothing wrong.
//!
//! docs/hostile-input.md lists the classes of attacks, and where each is tested.
#![expect(clippy::disallowed_methods, reason = "bounds tests by the real clock")]

mod frames;
#[path = "../support/gauge.rs"]
mod gauge;
mod heads;
mod places;
mod smuggling;
#[path = "../support/mod.rs"]
mod support;
