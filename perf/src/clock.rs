//! The one clock of the tool.

use std::time::{Instant, SystemTime};

#[expect(clippy::disallowed_methods, reason = "a load tool measures time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The date, for whoever reads a result later.
#[expect(clippy::disallowed_methods, reason = "a result tells when it was measured")]
pub(crate) fn date() -> SystemTime {
    SystemTime::now()
}
