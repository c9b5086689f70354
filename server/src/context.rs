//! What a handler does things with.

use crate::{
    id::ConnId,
    parts::slots::SlotId,
    table::{SendStatus, Table},
};
use quelea_core::{CloseCode, Message};
use std::fmt;

/// One connection in the hands of its handler, and through it all others of the worker.
///
/// What is sent during a tick leaves in one piece at the end of the tick: there is nothing to cork.
pub struct Conn<'a, S> {
    /// The handler's own state for this connection.
    pub state: &'a mut S,
    id: SlotId,
    table: &'a mut Table,
}

impl<'a, S> Conn<'a, S> {
    pub(crate) const fn new(id: SlotId, state: &'a mut S, table: &'a mut Table) -> Self {
        Self { state, id, table }
    }

    /// The connection's id: to keep, to compare, and to send to later.
    pub fn id(&self) -> ConnId {
        self.table.conn_id(self.id)
    }

    /// Sends a message: `&str` as text, `&[u8]` as binary.
    #[inline]
    pub fn send<'m>(&mut self, message: impl Into<Message<'m>>) -> SendStatus {
        self.table.send(self.id, message.into())
    }

    /// Sends a message to another connection of the same worker.
    pub fn send_to<'m>(&mut self, id: ConnId, message: impl Into<Message<'m>>) -> SendStatus {
        match self.table.slot_id(id) {
            Some(id) => self.table.send(id, message.into()),
            None => SendStatus::Closed,
        }
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

    /// Subscribes the connection to a topic: it gets what is
    /// [published](Conn::publish) there from now on. Whether it was not subscribed before.
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
    pub fn subscribe(&mut self, topic: &str) -> bool {
        self.table.subscribe(self.id, topic)
    }

    /// Ends a subscription; whether there was one. What was published before still arrives.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        self.table.unsubscribe(self.id, topic)
    }

    /// Sends a message to all subscribers of a topic, this connection too if it is one; returns
    /// how many there are.
    ///
    /// It is encoded once, and leaves at the end of the tick together with what else was
    /// published in it. Each subscriber gets what one connection publishes to one topic in order.
    /// For one that is too slow, it is dropped beyond
    /// [`Config::outbox_bytes_max`](crate::Config::outbox_bytes_max); for all, with 0 returned, if
    /// one callback publishes more than that to the topic.
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) -> usize {
        self.table.publish(topic, message.into(), None)
    }

    /// [Publishes](Conn::publish) to all subscribers but this connection.
    pub fn publish_to_others<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) -> usize {
        self.table.publish(topic, message.into(), Some(self.id))
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
