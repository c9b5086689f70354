//! What a connection speaks, apart from the sans-IO core.

pub(crate) mod http;
