//! Which driver the workers have.

#[cfg(target_os = "linux")]
use crate::driver::uring::Uring;
use crate::{
    config::{Config, DriverKind, EXCESS_MAX},
    driver::poll::Poll,
    error::{Error, Result},
};
use std::io;

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
                tracing::debug!("epoll is used: large messages cost less by it than by io_uring");
                poll(count, reserved)
            }
            DriverKind::Poll => poll(count, reserved),
            DriverKind::Uring => {
                uring(config, count).map_err(|reason| Error::Config { field: "driver", reason })
            }
            DriverKind::PreferUring => match uring(config, count).and_then(Self::if_complete) {
                Ok(drivers) => Ok(drivers),
                Err(reason) => {
                    tracing::info!(reason, "epoll is used, and not io_uring");
                    poll(count, reserved)
                }
            },
        }
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
    if let Some(driver) = drivers.first() {
        tracing::info!(features = %driver.features(), "io_uring");
    }
    Ok(Drivers::Uring(drivers))
}

#[cfg(not(target_os = "linux"))]
fn uring(_: &Config, _: usize) -> Result<Drivers, String> {
    Err("there is no io_uring on this system, only on Linux".to_owned())
}
