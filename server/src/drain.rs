//! How a server drains.

use crate::error::{Error, Result};
use quelea_core::CloseCode;
use std::time::Duration;

/// How a server ends without a wave of clients that all come back at once:
/// [`Handle::drain`](crate::Handle::drain).
///
/// It accepts no more, and closes its connections one after the other, evenly over
/// [`window`](Self::window), in an order that looks random. Each gets what is queued for it before
/// the close frame.
///
/// ```
/// use quelea::{CloseCode, Drain};
/// use std::time::Duration;
///
/// let drain = Drain {
///     window: Duration::from_secs(60),
///     timeout: Duration::from_secs(80),
///     code: CloseCode::SERVICE_RESTART,
/// };
/// assert!(drain.validate().is_ok());
/// assert!(Drain::default().validate().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// The time over which connections are closed; zero for all as fast as they can be. Default:
    /// 10 s.
    pub window: Duration,
    /// When the server ends, whatever its peers do, counted from the start of the drain: at least
    /// [`window`](Self::window), at most a day. A peer that still has something to take has until
    /// then; one that has taken all, and does not answer the close frame, has
    /// [`Config::close_timeout`](crate::Config::close_timeout). Default: 25 s, as Kubernetes kills
    /// after 30.
    pub timeout: Duration,
    /// What the close frames say (RFC 6455, section 7.4): 1001, this server goes away; or 1012, it
    /// comes back in a moment. Any code that may be sent is possible. Default: 1001.
    pub code: CloseCode,
}

/// The longest timeout: beyond a day, something else is meant.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Drain {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            timeout: Duration::from_secs(25),
            code: CloseCode::GOING_AWAY,
        }
    }
}

impl Drain {
    /// Checks that the values work.
    ///
    /// # Errors
    /// [`Error::Config`], which names the field and says what to change.
    pub fn validate(&self) -> Result<()> {
        let fail = |field, reason: &str| Err(Error::Config { field, reason: reason.to_owned() });
        if self.timeout.is_zero() || self.timeout > TIMEOUT_MAX {
            return fail("drain.timeout", "must be above zero and at most a day");
        }
        if self.window > self.timeout {
            return fail("drain.window", "must be at most `timeout`");
        }
        if !self.code.is_allowed_on_wire() {
            return fail("drain.code", "must be a close code that may be sent");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_work_are_named() {
        let second = Duration::from_secs(1);
        let whole = Drain { window: second, timeout: second, code: CloseCode(4321) };
        assert!(whole.validate().is_ok());
        for (drain, field) in [
            (Drain { timeout: Duration::ZERO, window: Duration::ZERO, ..whole }, "drain.timeout"),
            (Drain { timeout: Duration::MAX, ..whole }, "drain.timeout"),
            (Drain { window: 2 * second, ..whole }, "drain.window"),
            (Drain { code: CloseCode::NO_STATUS, ..whole }, "drain.code"),
            (Drain { code: CloseCode(999), ..whole }, "drain.code"),
        ] {
            match drain.validate() {
                Err(Error::Config { field: named, .. }) => assert_eq!(named, field),
                other => panic!("{other:?}"),
            }
        }
    }
}
