//! Where a row runs: the server, the bounds, and those who must not notice.

use super::{
    peer::{End, Heard, Peer, TEXT, frame},
    process::Process,
};
use crate::{clock::now, target::Target};
use clap::Args;
use serde::{Serialize, Serializer};
use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::Duration,
};

/// What bounds a run, in time and bytes.
#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Bounds {
    /// How long the server has for an answer, or for the end of a connection that is over.
    #[arg(long, default_value = "3", value_name = "SECONDS", value_parser = seconds)]
    #[serde(serialize_with = "as_seconds")]
    pub(crate) patience: Duration,
    /// How long another connection may wait for its echo while an attack goes on.
    #[arg(long, default_value = "2", value_name = "SECONDS", value_parser = seconds)]
    #[serde(serialize_with = "as_seconds")]
    pub(crate) good_time: Duration,
    /// How long the server has to end those that never finish their request, or never close.
    #[arg(long, default_value = "15", value_name = "SECONDS", value_parser = seconds)]
    #[serde(serialize_with = "as_seconds")]
    pub(crate) deadline_wait: Duration,
    /// How much the server's resident memory may grow in a row that is about memory.
    #[arg(long, default_value_t = 64, value_name = "MIB")]
    pub(crate) memory_mib: u64,
    /// How much a peer that floods sends at most; should be several times what --memory-mib allows.
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    pub(crate) flood_mib: u64,
    /// In how many fragments a message is cut by the rows that flood with fragments.
    #[arg(long, default_value_t = 500_000, value_name = "COUNT")]
    pub(crate) fragments: usize,
    /// How many connections never finish their handshake, or are reset, in the rows about that.
    #[arg(long, default_value_t = 3000, value_name = "COUNT")]
    pub(crate) connections: usize,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("expected more than no seconds".to_owned()),
    }
}

fn as_seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

pub(crate) struct Arena<'a> {
    pub(crate) target: &'a Target,
    pub(crate) bounds: &'a Bounds,
    pub(crate) process: Option<&'a Process>,
}

impl Arena<'_> {
    pub(crate) fn connect(&self) -> io::Result<Peer> {
        Peer::connect(self.target, self.bounds.patience)
    }

    pub(crate) fn open(&self) -> io::Result<Peer> {
        Peer::open(self.target, self.bounds.patience)
    }

    /// An open connection on which messages may be compressed; `None` if the server does not agree.
    pub(crate) fn open_with_deflate(&self) -> io::Result<Option<Peer>> {
        let mut peer = self.connect()?;
        let is_agreed = peer.upgrade_with_deflate(self.target, self.bounds.patience)?;
        Ok(is_agreed.then_some(peer))
    }

    /// An open connection of which the kernel keeps little that is not read.
    pub(crate) fn open_narrow(&self) -> io::Result<Peer> {
        let mut peer = Peer::connect_narrow(self.target, self.bounds.patience)?;
        peer.upgrade(self.target, self.bounds.patience)?;
        Ok(peer)
    }

    pub(crate) fn flood_bytes(&self) -> u64 {
        self.bounds.flood_mib << 20
    }

    /// The answer `how`, which did not come in time.
    pub(crate) fn nothing(&self, how: &str) -> String {
        format!("{how} in {} s", self.bounds.patience.as_secs_f64())
    }
}

/// A connection that does nothing wrong.
pub(crate) struct Calm {
    peer: Peer,
    good_time: Duration,
    asked: u64,
}

impl Calm {
    pub(crate) fn open(arena: &Arena<'_>) -> io::Result<Self> {
        let mut calm = Self { peer: arena.open()?, good_time: arena.bounds.good_time, asked: 0 };
        calm.ask()?;
        Ok(calm)
    }

    /// The time that an echo takes.
    pub(crate) fn ask(&mut self) -> io::Result<Duration> {
        self.asked += 1;
        let text = format!("calm {}", self.asked);
        let start = now();
        let deadline = start + self.good_time;
        self.peer.send(&frame(TEXT, text.as_bytes()));
        loop {
            let problem = match self.peer.frame(deadline)? {
                Heard::Some((TEXT, echo)) if echo == text.as_bytes() => return Ok(now() - start),
                // A heartbeat of the server.
                Heard::Some((first, _)) if first & 0x0f == 9 => continue,
                Heard::Some((first, echo)) => {
                    format!("got a frame {first:#x} of {} bytes for its text", echo.len())
                }
                Heard::End(End::Closed) => "was closed".to_owned(),
                Heard::End(End::Reset) => "was reset".to_owned(),
                Heard::Nothing => format!("had no echo in {} s", self.good_time.as_secs_f64()),
            };
            return Err(io::Error::other(problem));
        }
    }
}

/// What was noticed while an attack went on.
#[derive(Default)]
pub(crate) struct Noticed {
    /// How long the slowest echo of the other connection took.
    pub(crate) slowest: Duration,
    /// What happened to the other connection.
    pub(crate) problem: Option<String>,
    /// The most memory that the server had.
    pub(crate) memory_peak: Option<u64>,
}

impl Noticed {
    /// How much more memory the server had at the most.
    pub(crate) fn grown_since(&self, before: Option<u64>) -> Option<u64> {
        Some(self.memory_peak?.saturating_sub(before?))
    }
}

/// How often the other connection asks, and the memory is read.
const INTERVAL: Duration = Duration::from_millis(20);

/// Watches until told to stop, and once more then.
pub(crate) fn watch(mut calm: Calm, process: Option<&Process>, is_over: &AtomicBool) -> Noticed {
    let mut noticed = Noticed::default();
    loop {
        let is_last = is_over.load(Ordering::Acquire);
        if noticed.problem.is_none() {
            match calm.ask() {
                Ok(time) => noticed.slowest = noticed.slowest.max(time),
                Err(error) => noticed.problem = Some(error.to_string()),
            }
        }
        let memory = process.and_then(|process| process.memory().ok());
        noticed.memory_peak = noticed.memory_peak.max(memory);
        if is_last {
            return noticed;
        }
        sleep(INTERVAL);
    }
}
