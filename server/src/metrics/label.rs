//! Counts by a label of a small, closed set: what a peer sends never becomes a label.

use crate::config::Overflow;
use quelea_core::{CloseCode, Violation};
use std::{
    fmt,
    ops::{AddAssign, Index, IndexMut},
};

/// A set of labels that something is counted by. It is closed: no type outside this crate can be one.
pub trait Label: Copy + fmt::Debug + sealed::Counted + 'static {
    /// All of them, in the order of [`By::iter`].
    const ALL: &'static [Self];

    /// The label as it is exported.
    fn as_str(self) -> &'static str;
}

pub(super) mod sealed {
    use std::fmt;

    /// Where the counts lie.
    pub trait Counted {
        /// One count for each label.
        type Counts: Copy + Default + PartialEq + fmt::Debug + AsRef<[u64]> + AsMut<[u64]>;

        /// The place of a label in them.
        fn index(self) -> usize;
    }
}

/// How often something happened, by label.
///
/// ```
/// use quelea::metrics::{Limit, WorkerMetrics};
/// let metrics = WorkerMetrics::default();
/// assert_eq!(metrics.limits[Limit::ConnectionsMax], 0);
/// assert_eq!(metrics.limits.total(), metrics.limits.iter().map(|(_, count)| count).sum());
/// ```
#[derive(Clone, Copy, PartialEq)]
pub struct By<L: Label>(L::Counts);

impl<L: Label> By<L> {
    /// The sum over all labels.
    pub fn total(&self) -> u64 {
        self.0.as_ref().iter().sum()
    }

    /// Each label with its count.
    pub fn iter(&self) -> impl Iterator<Item = (L, u64)> + '_ {
        L::ALL.iter().map(|label| (*label, self[*label]))
    }
}

impl<L: Label> Default for By<L> {
    fn default() -> Self {
        Self(L::Counts::default())
    }
}

impl<L: Label, I: Into<L>> Index<I> for By<L> {
    type Output = u64;

    fn index(&self, label: I) -> &u64 {
        &self.0.as_ref()[label.into().index()]
    }
}

impl<L: Label, I: Into<L>> IndexMut<I> for By<L> {
    fn index_mut(&mut self, label: I) -> &mut u64 {
        &mut self.0.as_mut()[label.into().index()]
    }
}

impl<L: Label> AddAssign for By<L> {
    fn add_assign(&mut self, other: Self) {
        for (own, other) in self.0.as_mut().iter_mut().zip(other.0.as_ref()) {
            *own += other;
        }
    }
}

/// The labels that have a count.
impl<L: Label> fmt::Debug for By<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().filter(|(_, count)| *count > 0)).finish()
    }
}

macro_rules! labels {
    (
        $(#[$doc:meta])+
        pub enum $name:ident { $($(#[$label_doc:meta])+ $label:ident = $text:literal,)+ }
    ) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$label_doc])+ $label,)+ }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$label,)+];

            fn as_str(self) -> &'static str {
                match self { $(Self::$label => $text,)+ }
            }
        }

        impl sealed::Counted for $name {
            type Counts = [u64; Self::ALL.len()];

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

labels! {
    /// What a connection is at.
    pub enum ConnectionState {
        /// It was let in, and is no WebSocket yet: it asks, or has not asked.
        Handshaking = "handshaking",
        /// It was not let in, and waits to be told.
        Refused = "refused",
        /// A WebSocket that messages can be sent to.
        Open = "open",
        /// A WebSocket that we sent a close frame.
        Closing = "closing",
        /// All is said: it is flushed, or waits for the peer's end.
        Ending = "ending",
    }
}

labels! {
    /// Why a connection was refused: with this status, before it was a WebSocket.
    pub enum RefusalReason {
        /// 503: [`Config::connections_max`](crate::Config::connections_max).
        Full = "full",
        /// 503: [`Config::handshakes_pending_max`](crate::Config::handshakes_pending_max).
        Pending = "pending",
        /// 429: [`Config::connections_per_address_max`](crate::Config::connections_per_address_max).
        Address = "address",
        /// 503: [`Config::handshakes_per_second_max`](crate::Config::handshakes_per_second_max).
        Rate = "rate",
        /// 503: the server [drains](crate::Handle::drain).
        Draining = "draining",
        /// Closed without an answer: 1,024 others of the worker wait to be told that they are refused, or
        /// it has 16,777,216 connections.
        Excess = "excess",
        /// Closed without an answer: the system could not watch it.
        Unusable = "unusable",
        /// 400: no valid head of HTTP/1.1.
        Malformed = "malformed",
        /// 400: not exactly one valid `Host`.
        Host = "host",
        /// 400: a body whose end is unclear.
        Framing = "framing",
        /// 431: a head beyond [`HeadLimits::bytes_max`](crate::HeadLimits::bytes_max).
        HeadTooLong = "head_too_long",
        /// 431: more fields than [`HeadLimits::fields_max`](crate::HeadLimits::fields_max).
        TooManyFields = "too_many_fields",
        /// 505, or 400 for a handshake in HTTP/1.0.
        HttpVersion = "http_version",
        /// 408: a head that took longer than
        /// [`Config::handshake_timeout`](crate::Config::handshake_timeout).
        TimedOut = "timed_out",
        /// 405: a method that is not answered here.
        Method = "method",
        /// 413 for a request with a body, 400 for bytes behind the head of a handshake.
        Body = "body",
        /// 400: a handshake without `Upgrade: websocket`.
        Upgrade = "upgrade",
        /// 400: a handshake without `Connection: Upgrade`.
        Connection = "connection",
        /// 426: another version of WebSocket than 13.
        Version = "version",
        /// 400: a bad `Sec-WebSocket-Key`.
        Key = "key",
        /// 400: a bad `Sec-WebSocket-Protocol`.
        Subprotocols = "subprotocols",
        /// 400: a `Sec-WebSocket-Extensions` that is no list of extensions.
        Extensions = "extensions",
        /// 403: [`Config::origins`](crate::Config::origins).
        Origin = "origin",
        /// [`Handler::on_upgrade`](crate::Handler::on_upgrade) said no, with a status of its own.
        Handler = "handler",
        /// 500: what [`Handler::on_upgrade`](crate::Handler::on_upgrade) accepted with cannot be sent.
        Failed = "failed",
    }
}

labels! {
    /// The local cause of a WebSocket's end: [`Cause`](crate::Cause) without what a variant holds.
    pub enum CloseCause {
        /// [`Cause::PeerClosed`](crate::Cause::PeerClosed).
        PeerClosed = "peer_closed",
        /// [`Cause::LocalClosed`](crate::Cause::LocalClosed).
        LocalClosed = "local_closed",
        /// [`Cause::Disconnected`](crate::Cause::Disconnected).
        Disconnected = "disconnected",
        /// [`Cause::Reset`](crate::Cause::Reset).
        Reset = "reset",
        /// [`Cause::TimedOut`](crate::Cause::TimedOut).
        TimedOut = "timed_out",
        /// [`Cause::ProtocolError`](crate::Cause::ProtocolError).
        ProtocolError = "protocol_error",
        /// [`Cause::Limit`](crate::Cause::Limit).
        Limit = "limit",
        /// [`Cause::TooFast`](crate::Cause::TooFast).
        TooFast = "too_fast",
        /// [`Cause::TooSlow`](crate::Cause::TooSlow).
        TooSlow = "too_slow",
        /// [`Cause::Idle`](crate::Cause::Idle).
        Idle = "idle",
        /// [`Cause::Lifetime`](crate::Cause::Lifetime).
        Lifetime = "lifetime",
        /// [`Cause::Shutdown`](crate::Cause::Shutdown).
        Shutdown = "shutdown",
    }
}

labels! {
    /// A limit that was reached: of [`Config`](crate::Config), by the name of its field, and of the
    /// server itself. One count is one message, connection or wait that it was reached by.
    pub enum Limit {
        /// A message that was too long: 1009.
        MessageBytesMax = "message_bytes_max",
        /// A message in too many fragments: 1009.
        FragmentsMax = "fragments_max",
        /// A peer that sent more than
        /// [`messages_per_second_max`](crate::Config::messages_per_second_max) or
        /// [`bytes_per_second_max`](crate::Config::bytes_per_second_max) allows: 1008.
        PerSecondMax = "per_second_max",
        /// A message, ping or publish that found no room and was dropped; and each time that a slow
        /// subscriber missed what was published to a topic, which [`drops`](super::WorkerMetrics::drops)
        /// counts by message.
        OutboxBytesMax = "outbox_bytes_max",
        /// A peer that was read from no longer because more than this waited for it.
        HighWaterBytes = "high_water_bytes",
        /// A message to another worker, or a publish, that was dropped.
        MailboxBytesMax = "mailbox_bytes_max",
        /// A subscription that was one too many.
        SubscriptionsMax = "subscriptions_max",
        /// A name of a topic that is empty or too long, or a pattern that is none.
        TopicBytesMax = "topic_bytes_max",
        /// A request head that was too long, or had too many fields: 431.
        Head = "head",
        /// A client that did not ask in time, or took its answer too slowly.
        HandshakeTimeout = "handshake_timeout",
        /// A peer that did not end its closing handshake, or take what was left for it, in time.
        CloseTimeout = "close_timeout",
        /// A peer that did not answer a ping in time.
        PongTimeout = "pong_timeout",
        /// A peer that sent no message for too long: 1000.
        IdleTimeout = "idle_timeout",
        /// A connection that was old enough: 1012.
        LifetimeMax = "lifetime_max",
        /// A connection beyond those of all workers: 503.
        ConnectionsMax = "connections_max",
        /// A connection beyond those of its address: 429.
        ConnectionsPerAddressMax = "connections_per_address_max",
        /// A connection beyond those that may be not open yet: 503.
        HandshakesPendingMax = "handshakes_pending_max",
        /// A handshake beyond those of a second: 503.
        HandshakesPerSecondMax = "handshakes_per_second_max",
        /// A connection that was closed without an answer: see [`RefusalReason::Excess`].
        Excess = "excess",
        /// A client that sent requests, had more than 64 KiB of answers waiting, and got no more of them.
        Answers = "answers",
    }
}

impl Limit {
    /// Whether it is reached in the ordinary course of things, by time or by a slow network, and not
    /// worth an operator's look each time.
    pub(crate) const fn is_ordinary(self) -> bool {
        matches!(
            self,
            Self::HighWaterBytes
                | Self::HandshakeTimeout
                | Self::CloseTimeout
                | Self::PongTimeout
                | Self::IdleTimeout
                | Self::LifetimeMax
        )
    }
}

/// By its policy, what a slow subscriber missed.
impl Label for Overflow {
    const ALL: &'static [Self] = &[Self::Drop, Self::KeepLatest, Self::Close];

    fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::KeepLatest => "keep_latest",
            Self::Close => "close",
        }
    }
}

impl sealed::Counted for Overflow {
    type Counts = [u64; Self::ALL.len()];

    fn index(self) -> usize {
        self as usize
    }
}

impl Label for Violation {
    const ALL: &'static [Self] = Self::ALL;

    fn as_str(self) -> &'static str {
        self.name()
    }
}

impl sealed::Counted for Violation {
    type Counts = [u64; Self::ALL.len()];

    fn index(self) -> usize {
        self as usize
    }
}

/// The codes 1000 to 1015 each, those of libraries as one, and those of applications as one: a peer
/// chooses among thousands.
impl Label for CloseCode {
    const ALL: &'static [Self] = &[
        Self(1000),
        Self(1001),
        Self(1002),
        Self(1003),
        Self(1004),
        Self(1005),
        Self(1006),
        Self(1007),
        Self(1008),
        Self(1009),
        Self(1010),
        Self(1011),
        Self(1012),
        Self(1013),
        Self(1014),
        Self(1015),
        Self(3000),
        Self(4000),
    ];

    fn as_str(self) -> &'static str {
        const NAMES: [&str; <CloseCode as Label>::ALL.len()] = [
            "1000",
            "1001",
            "1002",
            "1003",
            "1004",
            "1005",
            "1006",
            "1007",
            "1008",
            "1009",
            "1010",
            "1011",
            "1012",
            "1013",
            "1014",
            "1015",
            "3000-3999",
            "4000-4999",
        ];
        NAMES[sealed::Counted::index(self)]
    }
}

impl sealed::Counted for CloseCode {
    type Counts = [u64; <Self as Label>::ALL.len()];

    fn index(self) -> usize {
        match self.0 {
            code @ 1000..=1015 => usize::from(code - 1000),
            3000..=3999 => 16,
            // No other code ends a connection.
            _ => 17,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Each label has a place and a name of its own.
    fn check<L: Label>() {
        let names: HashSet<_> = L::ALL.iter().map(|label| label.as_str()).collect();
        assert_eq!(names.len(), L::ALL.len());
        let mut counts = By::<L>::default();
        assert_eq!(L::Counts::default().as_ref().len(), L::ALL.len());
        for (at, label) in L::ALL.iter().enumerate() {
            counts[*label] += at as u64;
        }
        assert!(counts.iter().map(|(_, count)| count).eq(0..L::ALL.len() as u64));
    }

    #[test]
    fn each_label_is_counted_by_itself() {
        check::<ConnectionState>();
        check::<RefusalReason>();
        check::<CloseCause>();
        check::<Limit>();
        check::<Overflow>();
        check::<Violation>();
        check::<CloseCode>();
    }

    #[test]
    fn close_codes_that_a_peer_may_choose_are_two_labels() {
        let mut counts = By::<CloseCode>::default();
        for code in 3000..5000 {
            counts[CloseCode(code)] += 1;
        }
        let counted: Vec<_> = counts.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(CloseCode(3000), 1000), (CloseCode(4000), 1000)]);
        assert_eq!(CloseCode(4999).as_str(), "4000-4999");
    }

    #[test]
    fn sums_are_by_label() {
        let mut sum = By::<Overflow>::default();
        sum[Overflow::Drop] = 2;
        let other = sum;
        sum[Overflow::Close] = 5;
        sum += other;
        assert_eq!((sum[Overflow::Drop], sum[Overflow::Close], sum.total()), (4, 5, 9));
        assert_eq!(format!("{sum:?}"), "{Drop: 4, Close: 5}");
    }
}
