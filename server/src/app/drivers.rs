//! Which driver the workers have.

#[cfg(target_os = "linux")]
use crate::driver::uring::Uring;
use crate::{
    config::{Config, DriverKind, EXCESS_MAX},
    driver::poll::Poll,
    error::{Error, Result},
};
use std::io;

/// Beyond it, messages may cost more by io_uring than by epoll (docs/benchmarks.md, The drivers).
const URING_MESSAGE_BYTES_MAX: usize = 4 << 10;

/// One for each worker, all of one kind.
pub(super) enum Drivers {
    Poll(Vec<Poll>),
    #[cfg(target_os = "linux")]
    Uring(Vec<Uring>),
}

impl Drivers {
    /// So many, each of which keeps some descriptors for connections that come when there are no others.
    pub(super) fn open(config: &Config, count: usize, reserved: usize) -> Result<Self> {
        match config.driver {
            DriverKind::Auto => {
                let drivers =
                    prefer_uring(config).and_then(|()| uring(config, count)?.if_complete());
                drivers.map(Self::logged).or_else(|reason| {
                    tracing::info!(reason, "the driver is poll, and not io_uring");
                    poll(count, reserved)
                })
            }
            DriverKind::Poll => poll(count, reserved),
            DriverKind::Uring => {
                let drivers = uring(config, count).map(Self::logged);
                drivers.map_err(|reason| Error::Config { field: "driver", reason })
            }
        }
    }

    /// Tells what io_uring can do here.
    fn logged(self) -> Self {
        #[cfg(target_os = "linux")]
        if let Self::Uring(drivers) = &self
            && let Some(driver) = drivers.first()
        {
            tracing::info!(features = %driver.features(), "io_uring");
        }
        self
    }

    /// Unless they lack what makes them faster than [`Poll`].
    fn if_complete(self) -> Result<Self, String> {
        #[cfg(target_os = "linux")]
        if let Self::Uring(drivers) = &self
            && let Some(lacking) = drivers.first().and_then(|driver| driver.features().lacking())
        {
            return Err(format!("io_uring is not complete: {lacking}"));
        }
        Ok(self)
    }
}

/// Whether what comes costs less by io_uring, or why it may not.
fn prefer_uring(config: &Config) -> Result<(), String> {
    match config.message_bytes_max {
        ..=URING_MESSAGE_BYTES_MAX => Ok(()),
        bytes => Err(format!(
            "messages may have {bytes} bytes: those of more than {URING_MESSAGE_BYTES_MAX} may cost more by io_uring"
        )),
    }
}

fn poll(count: usize, reserved: usize) -> Result<Drivers> {
    let drivers = (0..count).map(|_| {
        let mut driver = Poll::new()?;
        driver.reserve(reserved)?;
        Ok(driver)
    });
    Ok(Drivers::Poll(drivers.collect::<io::Result<_>>()?))
}

#[cfg(target_os = "linux")]
fn uring(config: &Config, count: usize) -> Result<Drivers, String> {
    // Those that are refused are connections, too, until they are told so.
    let connections_max = config.connections_max + EXCESS_MAX;
    let drivers = (0..count).map(|_| Uring::new(connections_max));
    let drivers: Vec<_> = drivers.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    Ok(Drivers::Uring(drivers))
}

#[cfg(not(target_os = "linux"))]
fn uring(_: &Config, _: usize) -> Result<Drivers, String> {
    Err("there is no io_uring on this system, only on Linux".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_poll_where_large_messages_may_come() {
        let config = |message_bytes_max| Config { message_bytes_max, ..Config::default() };
        assert_eq!(prefer_uring(&config(4096)), Ok(()));
        assert!(matches!(Drivers::open(&config(4097), 1, 0), Ok(Drivers::Poll(_))));
    }
}
