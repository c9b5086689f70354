//! The generator: many clients on one thread, on core's client role and a driver of quelea's own.
//!
//! A tick is what a server's is: what is due is done, all that was written leaves in one send a client,
//! then completions are handled. A [`Mode`] says what clients do; the engine connects them, times
//! that, answers pings, counts how they end, and sends pings of its own.

mod clients;
mod deflate;
mod end;
mod engine;
pub(crate) mod frames;
mod hdr;
mod meter;
mod opening;
pub(crate) mod output;
pub(crate) mod processes;
mod receive;
mod recorder;
mod schedule;
mod settings;
mod sources;
mod stats;
mod time;
mod turns;

pub(crate) use clients::{ClientId, Clients};
pub(crate) use deflate::{Deflate, Offered, settings as deflate_settings};
pub(crate) use end::End;
pub(crate) use engine::{DriverKind, Engine, LoadDriver};
pub(crate) use frames::FrameId;
pub(crate) use meter::{CORE_MAX, Meter, Used, judge};
pub(crate) use recorder::{Labels, Recorder};
pub(crate) use schedule::Schedule;
pub(crate) use settings::Settings;
pub(crate) use stats::{Stats, nanos_histogram};
pub(crate) use time::Time;
pub(crate) use turns::{Sent, Turns};

use quelea_core::Message;
use std::error::Error;

/// What ends a run: it is told to who started it.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// What clients do.
///
/// All is called from [`Engine::run`]. [`Clients::now`] is the time that the call is about. What is
/// sent leaves together at the end of the tick.
pub(crate) trait Mode {
    /// What it keeps for each client.
    type State: Default;

    /// A client begins to connect. What it returns is the path that it asks for, if not that of the
    /// target.
    fn on_begin(&mut self, state: &mut Self::State, now: Time) -> Option<String> {
        let _ = (state, now);
        None
    }

    /// A client is open: its handshake is done.
    fn on_open(&mut self, clients: &mut Clients<Self::State>, id: ClientId) -> Outcome;

    /// A message came.
    fn on_message(
        &mut self,
        clients: &mut Clients<Self::State>,
        id: ClientId,
        message: Message<'_>,
    ) -> Outcome;

    /// A client is gone, or never came to be open: [`End::was_open`]. Its end is counted already.
    fn on_end(
        &mut self,
        clients: &mut Clients<Self::State>,
        id: ClientId,
        state: Self::State,
        end: &End,
    ) -> Outcome;

    /// Does what is due by now, and tells when it next has something to do. Called once a tick,
    /// as the last thing before what was written is sent.
    fn due(&mut self, clients: &mut Clients<Self::State>) -> Outcome<Time> {
        let _ = clients;
        Ok(Time::NEVER)
    }

    /// What a client has written since its last `on_sent` is handed to the kernel now.
    #[inline]
    fn on_sent(&mut self, state: &mut Self::State, now: Time) {
        let _ = (state, now);
    }

    /// The prepared message that has to come next to a client, and how often in a row at most, if that
    /// is known: then it is compared in the form of its frame, which is much cheaper than to decode
    /// it. It has to stay the same until it came.
    #[inline]
    fn expected(&self, state: &Self::State) -> Option<(FrameId, u32)> {
        let _ = state;
        None
    }

    /// The expected message came, so many times. What came instead goes to [`Mode::on_message`].
    #[inline]
    fn on_expected(
        &mut self,
        clients: &mut Clients<Self::State>,
        id: ClientId,
        count: u32,
    ) -> Outcome {
        let _ = (clients, id, count);
        Ok(())
    }
}
