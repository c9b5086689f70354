//! Draining on SIGTERM and SIGINT: [`Server::drain_on_signals`](crate::Server::drain_on_signals).
//!
//! A process has its signals once, however many servers it has: so one thread takes them for all, and
//! asks each server that is there by its handle. While there is none, a signal does what it does by
//! default. The thread ends with the process, and does not hold it up.

use crate::{drain::Drain, error::Result, handle::Handle};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
    low_level::emulate_default_handler,
};
use std::{
    ffi::c_int,
    panic,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

static SERVERS: Mutex<Servers> =
    Mutex::new(Servers { is_watching: false, next: 0, registered: Vec::new() });

/// All servers of the process that drain on signals.
struct Servers {
    /// There is the thread.
    is_watching: bool,
    next: u64,
    registered: Vec<Registered>,
}

#[derive(Debug)]
struct Registered {
    number: u64,
    handle: Handle,
    drain: Drain,
    /// A signal came before.
    is_signalled: bool,
}

/// As long as it lives, signals drain the server that it is of.
#[derive(Debug)]
pub(crate) struct Registration(u64);

impl Registration {
    pub(crate) fn new(handle: Handle, drain: Drain) -> Result<Self> {
        drain.validate()?;
        let mut servers = lock();
        if !servers.is_watching {
            watch()?;
            servers.is_watching = true;
        }
        let number = servers.next;
        servers.next += 1;
        servers.registered.push(Registered { number, handle, drain, is_signalled: false });
        Ok(Self(number))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        lock().registered.retain(|server| server.number != self.0);
    }
}

impl Registered {
    fn handle_signal(&mut self, signal: c_int) {
        if std::mem::replace(&mut self.is_signalled, true) {
            self.handle.abort();
            return;
        }
        // Who presses Ctrl-C waits.
        let window = if signal == SIGINT { Duration::ZERO } else { self.drain.window };
        // That it can work is known since it was registered.
        let _ = self.handle.drain(Drain { window, ..self.drain });
    }
}

fn watch() -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let name = "quelea-signals".to_owned();
    let handle_all = move || {
        for signal in signals.forever() {
            // It is logged, and who logs may panic: where nobody reads standard error any more, most do.
            // Without this thread no signal would end the process again.
            let _ = panic::catch_unwind(|| handle_signal(signal));
        }
    };
    thread::Builder::new().name(name).spawn(handle_all)?;
    Ok(())
}

fn handle_signal(signal: c_int) {
    let mut servers = lock();
    if servers.registered.is_empty() {
        drop(servers);
        if let Err(error) = emulate_default_handler(signal) {
            tracing::error!(%error, signal, "a signal cannot do what it does by default");
        }
        return;
    }
    servers.registered.iter_mut().for_each(|server| server.handle_signal(signal));
    drop(servers);
    // Last, so that whatever becomes of it, the signal has done its work.
    tracing::info!(signal, "signalled: the first drains, a second ends at once");
}

fn lock() -> MutexGuard<'static, Servers> {
    // Nothing in here can panic half-way.
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::Phase;

    fn registered() -> Registered {
        let handle = Handle::default();
        Registered { number: 0, handle, drain: Drain::default(), is_signalled: false }
    }

    #[test]
    fn the_first_signal_drains_and_a_second_aborts_whichever_they_are() {
        for (first, window) in [(SIGTERM, Drain::default().window), (SIGINT, Duration::ZERO)] {
            for second in [SIGTERM, SIGINT] {
                let mut server = registered();
                server.handle_signal(first);
                assert_eq!(server.handle.phase(), Phase::Draining);
                assert_eq!(server.handle.drain_options(), Drain { window, ..Drain::default() });
                server.handle_signal(second);
                assert_eq!(server.handle.phase(), Phase::Aborting);
            }
        }
    }

    #[test]
    fn a_drain_that_the_program_began_goes_on_at_the_first_signal() {
        let mut server = registered();
        let own = Drain { window: Duration::from_secs(1), ..Drain::default() };
        server.handle.drain(own).unwrap();
        server.handle_signal(SIGTERM);
        assert_eq!(server.handle.phase(), Phase::Draining);
        assert_eq!(server.handle.drain_options(), own);
        server.handle_signal(SIGTERM);
        assert_eq!(server.handle.phase(), Phase::Aborting);
    }
}
