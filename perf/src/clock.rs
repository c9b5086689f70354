//! The one clock of the tool.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "a load tool measures time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
