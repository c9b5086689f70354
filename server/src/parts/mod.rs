//! Data structures of a worker. Each knows nothing of the others.

pub(crate) mod arena;
pub(crate) mod outbox;
pub(crate) mod slots;
pub(crate) mod timer;
pub(crate) mod topics;
