//! What a handler does things with.

use crate::{
    driver::SendNow,
    id::ConnId,
    parts::{slots::SlotId, topics::Kind},
    table::{LARGE_BYTES, SendStatus, SubscribeStatus, Table},
};
#[cfg(feature = "deflate")]
use quelea_core::deflate::Compress;
use quelea_core::{CloseCode, Message};
use std::{fmt, time::Duration};

/// One connection in the hands of its handler, and through it all others of the worker.
///
/// What is sent during a tick leaves in one piece at the end of the tick: there is nothing to cork. A
/// payload of 64 KiB or more that answers a message leaves at once, from where it lies, unless something
/// waits for the peer or the tick has sent more than 1 MiB so.
pub struct Conn<'a, S> {
    /// The handler's own state for this connection.
    pub state: &'a mut S,
    id: SlotId,
    table: &'a mut Table,
    /// Where the driver can send at once.
    direct: Option<&'a mut dyn SendNow>,
}

impl<'a, S> Conn<'a, S> {
    pub(crate) const fn new(
        id: SlotId,
        state: &'a mut S,
        table: &'a mut Table,
        direct: Option<&'a mut dyn SendNow>,
    ) -> Self {
        Self { state, id, table, direct }
    }

    /// The connection's id: to keep, to compare, and to send to later.
    pub fn id(&self) -> ConnId {
        self.table.conn_id(self.id)
    }

    /// Sends a message: `&str` as text, `&[u8]` as binary.
    #[inline]
    pub fn send<'m>(&mut self, message: impl Into<Message<'m>>) -> SendStatus {
        let message = message.into();
        match &mut self.direct {
            Some(direct) if message.len() >= LARGE_BYTES => {
                self.table.send_large(self.id, message, *direct)
            }
            _ => self.table.send(self.id, message),
        }
    }

    /// Sends a message, and says whether to compress it if that is agreed on; [`Conn::send`] does as
    /// [`Config::deflate`](crate::Config::deflate) says.
    #[cfg(feature = "deflate")]
    pub fn send_with<'m>(
        &mut self,
        message: impl Into<Message<'m>>,
        compress: Compress,
    ) -> SendStatus {
        self.table.send_with(self.id, message.into(), compress)
    }

    /// Sends a message to another connection of the server. To one of another worker it goes by
    /// that worker's mailbox: then [`SendStatus::Queued`] means that it is on its way, not that the
    /// connection is still there.
    pub fn send_to<'m>(&mut self, id: ConnId, message: impl Into<Message<'m>>) -> SendStatus {
        self.table.send_to(id, message.into())
    }

    /// Sends a ping of at most 125 bytes (RFC 6455, section 5.5.2); the answer comes by
    /// [`Handler::on_pong`](crate::Handler::on_pong).
    pub fn ping(&mut self, payload: &[u8]) -> SendStatus {
        self.table.ping(self.id, payload)
    }

    /// Begins the closing handshake (RFC 6455, section 7.1.2): what was sent before still arrives,
    /// what the peer still sends is dropped, and
    /// [`Handler::on_close`](crate::Handler::on_close) follows once the peer answers, or after
    /// [`Config::close_timeout`](crate::Config::close_timeout).
    ///
    /// A reason of more than 123 bytes is cut. [`SendStatus::Invalid`] means that the code may
    /// not be sent: those that may are 1000-1003, 1007-1014 and 3000-4999, of which 4000-4999 are
    /// for applications.
    ///
    /// ```
    /// use quelea::{CloseCode, Conn, Handler, Message};
    ///
    /// struct TextOnly;
    ///
    /// impl Handler for TextOnly {
    ///     type State = ();
    ///
    ///     fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
    ///         if let Message::Binary(_) = message {
    ///             conn.close(CloseCode::UNSUPPORTED_DATA, "text only");
    ///         }
    ///     }
    /// }
    /// ```
    pub fn close(&mut self, code: CloseCode, reason: &str) -> SendStatus {
        self.table.close(self.id, code, reason)
    }

    /// Subscribes the connection to a topic: it gets what is [published](Conn::publish) there from
    /// now on, on any worker. The name means just itself, whatever is in it.
    ///
    /// Topics need not be made, and are gone with their last subscriber; a connection's
    /// subscriptions end with it.
    ///
    /// ```
    /// use quelea::{Conn, Handler, Message};
    ///
    /// struct Broadcast;
    ///
    /// impl Handler for Broadcast {
    ///     type State = ();
    ///
    ///     fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
    ///         conn.subscribe("all");
    ///     }
    ///
    ///     fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
    ///         conn.publish("all", message);
    ///     }
    /// }
    /// ```
    pub fn subscribe(&mut self, topic: &str) -> SubscribeStatus {
        self.table.subscribe(self.id, topic, Kind::Exact)
    }

    /// Ends a subscription; whether there was one. What was published before still arrives, unless
    /// the connection was to get only [the latest](crate::Overflow::KeepLatest) of it.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        self.table.unsubscribe(self.id, topic, Kind::Exact)
    }

    /// Subscribes the connection to all topics that match a pattern: in `a.*.c` the star stands for
    /// one part of a name between dots, in `a.>` the last part stands for one or more. What is
    /// published to one that matches two patterns, or a pattern and a subscription to that very
    /// topic, comes twice.
    ///
    /// Topics that nobody has patterns for pay nothing for it. Each publish to one looks at the
    /// patterns that begin as its name does: those that begin with a star are the dear ones, so
    /// let clients choose names, not patterns.
    pub fn subscribe_pattern(&mut self, pattern: &str) -> SubscribeStatus {
        self.table.subscribe(self.id, pattern, Kind::Pattern)
    }

    /// Ends a subscription to a pattern; whether there was one.
    pub fn unsubscribe_pattern(&mut self, pattern: &str) -> bool {
        self.table.unsubscribe(self.id, pattern, Kind::Pattern)
    }

    /// Sends a message to all subscribers of a topic on all workers, this connection too if it is
    /// one.
    ///
    /// It is encoded once a worker, and leaves at the end of the tick together with what else was
    /// published in it. Each subscriber gets what one connection publishes to one topic in order.
    /// For one that is too slow, [`Config::overflow`](crate::Config::overflow) decides.
    ///
    /// [`SendStatus::Dropped`] means that nobody gets it: one tick has more for the topic than
    /// [`Config::outbox_bytes_max`](crate::Config::outbox_bytes_max), or another worker is behind by
    /// [`Config::mailbox_bytes_max`](crate::Config::mailbox_bytes_max). [`SendStatus::Invalid`]
    /// means that the name is empty or longer than
    /// [`Config::topic_bytes_max`](crate::Config::topic_bytes_max).
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) -> SendStatus {
        self.table.publish(topic, message.into(), None)
    }

    /// [Publishes](Conn::publish) to all subscribers but this connection.
    pub fn publish_to_others<'m>(
        &mut self,
        topic: &str,
        message: impl Into<Message<'m>>,
    ) -> SendStatus {
        self.table.publish(topic, message.into(), Some(self.id))
    }

    /// Calls [`Handler::on_timer`](crate::Handler::on_timer) with this key after that long, within
    /// 8 ms, and at most 100 days. A connection has one timer for each key: setting it again moves
    /// it. Whether it is set: not once the connection is gone.
    ///
    /// ```
    /// use quelea::{Conn, Handler, Message};
    /// use std::time::Duration;
    ///
    /// struct LogIn;
    /// const TOO_LATE: u8 = 0;
    ///
    /// impl Handler for LogIn {
    ///     type State = ();
    ///
    ///     fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
    ///         conn.set_timer(TOO_LATE, Duration::from_secs(5));
    ///     }
    ///
    ///     fn on_message(&mut self, conn: &mut Conn<'_, ()>, _token: Message<'_>) {
    ///         conn.clear_timer(TOO_LATE);
    ///     }
    ///
    ///     fn on_timer(&mut self, conn: &mut Conn<'_, ()>, _key: u8) {
    ///         conn.close(quelea::CloseCode::POLICY_VIOLATION, "no log-in");
    ///     }
    /// }
    /// ```
    pub fn set_timer(&mut self, key: u8, after: Duration) -> bool {
        self.table.set_alarm(self.id, key, after)
    }

    /// Clears a timer; whether it was set.
    pub fn clear_timer(&mut self, key: u8) -> bool {
        self.table.clear_alarm(self.id, key)
    }

    /// Reads nothing more from the peer until [`Conn::resume`], so that the peer has to wait. What
    /// was read already, up to 260 KiB, still comes, and so does what the peer had sent before it reset
    /// the connection. As long as this lasts, a peer that is gone is not noticed
    /// unless its transport fails, and it is not [idle](crate::Config::idle_timeout).
    pub fn pause(&mut self) {
        self.table.hold(self.id, true);
    }

    /// Reads again.
    pub fn resume(&mut self) {
        self.table.hold(self.id, false);
    }

    /// Bytes that wait for the peer to take them, those of this tick included.
    pub fn queued(&self) -> usize {
        self.table.queued(self.id)
    }
}

impl<S> fmt::Debug for Conn<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").field("id", &self.id()).finish_non_exhaustive()
    }
}
