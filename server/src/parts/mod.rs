//! Data structures of a worker. Each knows nothing of the others but slots and ticks, and topics
//! their patterns.

pub(crate) mod alarms;
pub(crate) mod arena;
pub(crate) mod heap;
pub(crate) mod mailbox;
pub(crate) mod mutant;
pub(crate) mod outbox;
pub(crate) mod patterns;
pub(crate) mod rate;
pub(crate) mod slots;
pub(crate) mod spread;
pub(crate) mod timer;
pub(crate) mod topics;
