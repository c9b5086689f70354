//! What a client has sent and not got back.

use crate::load::{FrameId, Time};
use std::collections::VecDeque;

/// Messages in flight, the oldest first. Those that were sent together are one entry.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    runs: VecDeque<Run>,
    count: u32,
    /// The last entry is still to be sent.
    unsent: bool,
}

/// Some messages that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) frame: FrameId,
    pub(super) count: u32,
    /// `None` for when it is sent.
    intended: Option<Time>,
    sent: Time,
}

impl Run {
    pub(super) fn intended(&self) -> Time {
        self.intended.unwrap_or(self.sent)
    }

    pub(super) const fn sent(&self) -> Time {
        self.sent
    }
}

impl InFlight {
    pub(super) const fn len(&self) -> u32 {
        self.count
    }

    /// What comes back next.
    #[inline]
    pub(super) fn first(&self) -> Option<&Run> {
        self.runs.front()
    }

    #[inline]
    pub(super) fn push(&mut self, frame: FrameId, count: u32, intended: Option<Time>) {
        self.count += count;
        if self.unsent
            && let Some(last) = self.runs.back_mut()
            && (last.frame, last.intended) == (frame, intended)
        {
            last.count += count;
            return;
        }
        self.unsent = true;
        self.runs.push_back(Run { frame, count, intended, sent: Time::NEVER });
    }

    /// All that was pushed is sent.
    #[inline]
    pub(super) fn set_sent(&mut self, now: Time) {
        if !std::mem::take(&mut self.unsent) {
            return;
        }
        for run in self.runs.iter_mut().rev() {
            if run.sent != Time::NEVER {
                break;
            }
            run.sent = now;
        }
    }

    /// The first ones came back, at most as many as are in the first entry.
    #[inline]
    pub(super) fn pop(&mut self, count: u32) -> Option<Run> {
        let first = self.runs.front_mut()?;
        let run = Run { count: count.min(first.count), ..*first };
        first.count -= run.count;
        if first.count == 0 {
            self.runs.pop_front();
        }
        self.count -= run.count;
        Some(run)
    }
}
