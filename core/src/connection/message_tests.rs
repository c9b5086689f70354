//! `Connection::poll_message` takes what `Connection::poll_event` would, and nothing else.

use super::{
    tests::{End, Owned, frames},
    *,
};
use crate::{CloseCode, Limits, message::Message};
use proptest::prelude::*;

/// What a loop does that asks for short messages first.
fn receive(end: &mut End, bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    let mut received = Received::new(&mut bytes);
    while !received.is_done() {
        while let Some(message) = end.connection.poll_message(&mut received, &end.context) {
            end.events.push(Event::Message(message).into());
        }
        match end.connection.poll_event(&mut received, &mut end.context, &mut end.out) {
            Ok(Some(event)) => end.events.push(event.into()),
            Ok(None) => break,
            Err(violation) => end.events.push(Owned::Failed(violation)),
        }
    }
    assert!(received.is_done());
}

proptest! {
    #[test]
    fn who_asks_for_short_messages_first_gets_the_same_events(
        bytes in frames(), cut in any::<prop::sample::Index>(), is_closing: bool,
    ) {
        let (mut whole, mut first) = (End::new(Role::Server), End::new(Role::Server));
        if is_closing {
            whole.close(CloseCode::NORMAL, "").unwrap();
            first.close(CloseCode::NORMAL, "").unwrap();
        }
        let (before, after) = bytes.split_at(cut.index(bytes.len() + 1));
        for bytes in [before, after] {
            whole.receive(bytes);
            receive(&mut first, bytes);
        }
        prop_assert_eq!(&first.events, &whole.events);
        prop_assert_eq!(&first.out, &whole.out);
    }
}

#[test]
fn what_is_no_short_message_of_a_client_is_left_as_it_is() {
    let context = Context::new(Default::default(), [0; 32]);
    let long = [&b"\x82\xfe\x00\x7e\0\0\0\0"[..], &[0; 126]].concat();
    for bytes in
        [&b"\x81\x02hi"[..], b"\x89\x80\0\0\0\0", b"\x01\x80\0\0\0\0", b"\x82\x81\0\0\0\0", &long]
    {
        let mut input = bytes.to_vec();
        let mut received = Received::new(&mut input);
        let message = Connection::new(Role::Server).poll_message(&mut received, &context);
        assert_eq!(message, None::<Message<'_>>, "{bytes:x?}");
        assert!(!received.is_done());
        drop(received);
        assert_eq!(input, bytes);
    }
}

#[test]
fn only_a_server_that_may_send_and_has_nothing_under_way_gets_short_messages() {
    let limits = Limits { message_bytes_max: 1, ..Limits::default() };
    let mut ends = [
        End::new(Role::Client),
        End::with_limits(Role::Server, limits),
        End::new(Role::Server),
        End::new(Role::Server),
        End::new(Role::Server),
        End::new(Role::Server),
    ];
    ends[2].close(CloseCode::NORMAL, "").unwrap();
    ends[3].receive(b"\x88\x80\0\0\0\0");
    ends[4].receive(b"\x01\x80\0\0\0\0");
    ends[5].receive(b"\x81");
    for (index, end) in ends.iter_mut().enumerate() {
        let mut input = *b"\x81\x82\0\0\0\0hi";
        let mut received = Received::new(&mut input);
        assert_eq!(end.connection.poll_message(&mut received, &end.context), None, "{index}");
        assert!(!received.is_done(), "{index}");
    }
}

#[test]
fn a_violation_that_was_found_is_not_told_of_a_connection_that_ended_before() {
    let mut end = End::new(Role::Server);
    let mut input = *b"\x81\x81\0\0\0\0\xff";
    let mut received = Received::new(&mut input);
    assert_eq!(end.connection.poll_message(&mut received, &end.context), None);
    assert!(!received.is_done());
    end.receive(b"\x88\x80\0\0\0\0");
    let event = end.connection.poll_event(&mut received, &mut end.context, &mut end.out);
    assert_eq!(event, Ok(None));
    assert!(received.is_done());
}
