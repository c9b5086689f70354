use super::*;
use crate::{CloseCode, CloseFrame, Limits, Message, MessageKind, Opcode, Violation, frame};
use proptest::{collection::vec, prelude::*};

/// An event that owns what it holds, to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(CloseCode, String),
    Failed(Violation),
}

impl From<Event<'_>> for Owned {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message(Message::Text(text)) => Self::Text(text.into()),
            Event::Message(Message::Binary(bytes)) => Self::Binary(bytes.into()),
            Event::Ping(payload) => Self::Ping(payload.into()),
            Event::Pong(payload) => Self::Pong(payload.into()),
            Event::Close(frame) => Self::Close(frame.code, frame.reason.into()),
        }
    }
}

pub(super) struct End {
    pub(super) connection: Connection,
    pub(super) context: Context,
    pub(super) out: Vec<u8>,
    pub(super) events: Vec<Owned>,
}

impl End {
    pub(super) fn new(role: Role) -> Self {
        Self::with_limits(role, Limits::default())
    }

    pub(super) fn with_limits(role: Role, limits: Limits) -> Self {
        let context = Context::new(limits, [7; 32]);
        Self { connection: Connection::new(role), context, out: Vec::new(), events: Vec::new() }
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let mut received = Received::new(&mut bytes);
        loop {
            match self.connection.poll_event(&mut received, &mut self.context, &mut self.out) {
                Ok(Some(event)) => self.events.push(event.into()),
                Ok(None) => return,
                Err(violation) => self.events.push(Owned::Failed(violation)),
            }
        }
    }

    pub(super) fn receive_cut(&mut self, bytes: &[u8], cuts: impl Iterator<Item = usize>) {
        let mut rest = bytes;
        for cut in cuts {
            let (chunk, tail) = rest.split_at(cut.min(rest.len()));
            self.receive(chunk);
            rest = tail;
        }
        self.receive(rest);
    }

    pub(super) fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), SendError> {
        self.connection.close(CloseFrame { code, reason }, &mut self.context, &mut self.out)
    }

    pub(super) fn take_out(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

/// A frame as a client sends it, whatever is wrong with it.
pub(super) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let header = frame::Header {
        fin: first & 0x80 != 0,
        reserved: first & 0x70,
        opcode: Opcode::Text,
        mask: Some([1, 2, 3, 4]),
        payload_len: 0,
    };
    let mut out = Vec::new();
    frame::append(&mut out, header, payload);
    out[0] = first;
    out
}

fn server_after(bytes: &[u8]) -> End {
    let mut server = End::new(Role::Server);
    server.receive(bytes);
    server
}

#[test]
fn an_idle_connection_is_three_words() {
    assert!(size_of::<Connection>() <= 24, "{}", size_of::<Connection>());
}

mod section_5_2_opcodes {
    use super::*;

    #[test]
    fn each_reserved_opcode_fails_as_first_frame_and_inside_a_message() {
        for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
            for first in [opcode, 0x80 | opcode] {
                for before in [vec![], masked(0x01, b"a")] {
                    let server = server_after(&[before, masked(first, b"")].concat());
                    let failed = [Owned::Failed(Violation::ReservedOpcode)];
                    assert_eq!(server.events, failed, "{first:#x}");
                    assert_eq!(server.out[2..4], [0x03, 0xEA], "{first:#x}");
                }
            }
        }
    }
}

mod section_5_4_fragmentation {
    use super::*;

    #[test]
    fn control_frames_may_stand_between_fragments() {
        let bytes = [
            masked(0x01, b"Hel"),
            masked(0x89, b"?"),
            masked(0x00, b""),
            masked(0x8A, b"!"),
            masked(0x80, b"lo"),
        ]
        .concat();
        let server = server_after(&bytes);
        let expected =
            [Owned::Ping(b"?".into()), Owned::Pong(b"!".into()), Owned::Text("Hello".into())];
        assert_eq!(server.events, expected);
        assert_eq!(server.out, b"\x8A\x01?");
    }

    #[test]
    fn a_character_may_be_cut_between_fragments() {
        let server = server_after(&[masked(0x01, b"\xE2\x82"), masked(0x80, b"\xAC")].concat());
        assert_eq!(server.events, [Owned::Text("€".into())]);
    }

    #[test]
    fn a_new_message_inside_a_message_fails() {
        let server = server_after(&[masked(0x01, b"a"), masked(0x81, b"b")].concat());
        assert_eq!(server.events, [Owned::Failed(Violation::ContinuationExpected)]);
    }

    #[test]
    fn a_message_that_was_sent_in_fragments_arrives_whole() {
        let (mut client, mut server) = (End::new(Role::Client), End::new(Role::Server));
        for (piece, fin) in [("a", false), ("b", false), ("c", true)] {
            let End { connection, context, out, .. } = &mut client;
            connection
                .send_fragment(MessageKind::Text, piece.as_bytes(), fin, context, out)
                .unwrap();
            if !fin {
                let refused = connection.send(Message::Text("x"), context, out);
                assert_eq!(refused, Err(SendError::InFragments));
            }
        }
        server.receive(&client.take_out());
        assert_eq!(server.events, [Owned::Text("abc".into())]);
    }
}

mod section_5_5_control_frames {
    use super::*;

    #[test]
    fn each_ping_is_answered_in_order() {
        let server = server_after(&[masked(0x89, b"1"), masked(0x89, b"2")].concat());
        assert_eq!(server.out, b"\x8A\x011\x8A\x012");
    }

    #[test]
    fn held_pongs_coalesce_to_the_latest() {
        let mut server = End::new(Role::Server);
        server.connection.hold_pongs(true);
        for _ in 0..1000 {
            server.receive(&masked(0x89, b"old"));
        }
        server.receive(&masked(0x89, b"new"));
        assert_eq!(server.out, b"");
        server.connection.hold_pongs(false);
        server.connection.flush_pong(&mut server.context, &mut server.out);
        server.connection.flush_pong(&mut server.context, &mut server.out);
        assert_eq!(server.out, b"\x8A\x03new");
    }

    #[test]
    fn a_pong_that_is_sent_stands_for_the_one_that_was_held() {
        let mut server = End::new(Role::Server);
        server.connection.hold_pongs(true);
        server.receive(&masked(0x89, b"old"));
        server.connection.hold_pongs(false);
        server.receive(&masked(0x89, b"new"));
        server.connection.flush_pong(&mut server.context, &mut server.out);
        assert_eq!(server.out, b"\x8A\x03new");
    }

    #[test]
    fn a_pong_is_held_beyond_the_end_of_the_message_its_ping_stood_in() {
        let bytes = [masked(0x01, b"a"), masked(0x89, b"?"), masked(0x80, b"b")].concat();
        for chunk_len in [1, bytes.len()] {
            let mut server = End::new(Role::Server);
            server.connection.hold_pongs(true);
            server.receive_cut(&bytes, std::iter::repeat_n(chunk_len, bytes.len() / chunk_len));
            assert_eq!(server.events, [Owned::Ping(b"?".into()), Owned::Text("ab".into())]);
            assert_eq!(server.out, b"");
            server.connection.flush_pong(&mut server.context, &mut server.out);
            assert_eq!(server.out, b"\x8A\x01?");
        }
    }

    #[test]
    fn a_pong_may_stand_between_the_fragments_of_a_message_that_is_sent() {
        let mut server = End::new(Role::Server);
        server.connection.hold_pongs(true);
        server.receive(&masked(0x89, b"?"));
        for (piece, fin) in [(b"a", false), (b"b", true)] {
            let End { connection, context, out, .. } = &mut server;
            connection.send_fragment(MessageKind::Text, piece, fin, context, out).unwrap();
            connection.flush_pong(context, out);
        }
        assert_eq!(server.out, b"\x01\x01a\x8A\x01?\x80\x01b");
    }

    #[test]
    fn nothing_follows_a_close_frame_not_even_a_pong_that_was_held() {
        type Closing = fn(&mut End);
        let closings: [(Closing, &[u8]); 3] = [
            (|server| server.close(CloseCode::NORMAL, "").unwrap(), b"\x88\x02\x03\xE8"),
            (|server| server.receive(&masked(0x88, b"\x03\xE9")), b"\x88\x02\x03\xE9"),
            (|server| server.receive(&masked(0x83, b"")), b"\x88\x11\x03\xEAreserved opcode"),
        ];
        for (close, expected) in closings {
            let mut server = End::new(Role::Server);
            server.connection.hold_pongs(true);
            server.receive(&masked(0x89, b"?"));
            close(&mut server);
            assert!(server.connection.rare.is_none(), "its memory is given back");
            server.receive(&masked(0x89, b"?"));
            server.connection.flush_pong(&mut server.context, &mut server.out);
            assert_eq!(server.out, expected);
        }
    }

    #[test]
    fn a_payload_beyond_125_bytes_is_refused_before_it_is_sent() {
        let mut client = End::new(Role::Client);
        let End { connection, context, out, .. } = &mut client;
        assert_eq!(connection.ping(&[0; 126], context, out), Err(SendError::ControlTooLong));
        assert_eq!(connection.pong(&[0; 126], context, out), Err(SendError::ControlTooLong));
        assert!(out.is_empty());
    }
}

mod section_7_closing {
    use super::*;

    #[test]
    fn the_peers_close_is_answered_with_its_code_and_ends_everything() {
        let mut server = server_after(&[masked(0x88, b"\x03\xE8bye"), masked(0x81, b"x")].concat());
        assert_eq!(server.events, [Owned::Close(CloseCode::NORMAL, "bye".into())]);
        assert_eq!(server.out, b"\x88\x02\x03\xE8");
        assert!(server.connection.is_finished() && !server.connection.is_open());
        assert_eq!(server.close(CloseCode::NORMAL, ""), Err(SendError::Closed));
    }

    #[test]
    fn a_close_without_a_code_is_answered_without_a_code() {
        let server = server_after(&masked(0x88, b""));
        assert_eq!(server.events, [Owned::Close(CloseCode::NO_STATUS, String::new())]);
        assert_eq!(server.out, b"\x88\x00");
    }

    #[test]
    fn a_close_without_a_code_has_no_reason_either() {
        let mut server = End::new(Role::Server);
        server.close(CloseCode::NO_STATUS, "why").unwrap();
        assert_eq!(server.out, b"\x88\x00");
    }

    #[test]
    fn after_our_close_messages_still_arrive_but_none_is_sent() {
        let mut server = End::new(Role::Server);
        server.close(CloseCode::GOING_AWAY, "later").unwrap();
        assert!(!server.connection.is_open() && !server.connection.is_finished());
        server.receive(&[masked(0x81, b"late"), masked(0x89, b"p")].concat());
        server.receive(&masked(0x88, b"\x03\xE9"));
        assert_eq!(server.out, b"\x88\x07\x03\xE9later");
        assert_eq!(
            server.events,
            [
                Owned::Text("late".into()),
                Owned::Ping(b"p".into()),
                Owned::Close(CloseCode::GOING_AWAY, String::new())
            ]
        );
        assert!(server.connection.is_finished());
        let End { connection, context, out, .. } = &mut server;
        assert_eq!(connection.send(Message::Text("x"), context, out), Err(SendError::Closed));
    }

    #[test]
    fn each_code_is_allowed_both_ways_or_refused_both_ways() {
        // 1004, 1005, 1006 and 1015 are reserved (section 7.4.1), the rest are nobody's.
        let named = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
        let nobodys = [0, 1, 999, 1016, 1999, 2000, 2999, 5000, u16::MAX];
        let reserved = [1004, 1005, 1006, 1015];
        for code in named.into_iter().chain([3000, 3999, 4000, 4999]) {
            let server = server_after(&masked(0x88, &u16::to_be_bytes(code)));
            assert_eq!(server.events, [Owned::Close(CloseCode(code), String::new())]);
            assert_eq!(End::new(Role::Server).close(CloseCode(code), ""), Ok(()), "{code}");
        }
        for code in reserved.into_iter().chain(nobodys) {
            let server = server_after(&masked(0x88, &u16::to_be_bytes(code)));
            assert_eq!(server.events, [Owned::Failed(Violation::CloseCodeInvalid)], "{code}");
            assert_eq!(server.out[2..4], [0x03, 0xEA], "{code}");
            if code != CloseCode::NO_STATUS.0 {
                let refused = End::new(Role::Server).close(CloseCode(code), "");
                assert_eq!(refused, Err(SendError::CloseCodeInvalid), "{code}");
            }
        }
    }

    #[test]
    fn a_violation_sends_one_close_frame_and_what_follows_is_dropped() {
        let mut server = server_after(&masked(0x83, b""));
        server.receive(&masked(0x81, b"x"));
        assert_eq!(server.events, [Owned::Failed(Violation::ReservedOpcode)]);
        assert_eq!(&server.out[..4], b"\x88\x11\x03\xEA");
        assert_eq!(server.out.len(), 2 + 0x11);
        assert!(server.connection.is_finished());
    }

    #[test]
    fn both_ends_close_at_once() {
        let (mut client, mut server) = (End::new(Role::Client), End::new(Role::Server));
        client.close(CloseCode::NORMAL, "c").unwrap();
        server.close(CloseCode::NORMAL, "s").unwrap();
        let (from_client, from_server) = (client.take_out(), server.take_out());
        server.receive(&from_client);
        client.receive(&from_server);
        assert!(client.connection.is_finished() && server.connection.is_finished());
        assert!(client.out.is_empty() && server.out.is_empty());
    }
}

mod section_8_1_text {
    use super::*;

    #[test]
    fn bad_text_fails_inside_a_frame_at_its_first_bad_byte() {
        let bytes = masked(0x81, b"ok \xF4\x90 and a tail that never needs to come");
        let header = 6;
        let mut server = End::new(Role::Server);
        server.receive(&bytes[..header + 4]);
        assert!(server.events.is_empty());
        server.receive(&bytes[header + 4..header + 5]);
        assert_eq!(server.events, [Owned::Failed(Violation::TextNotUtf8)]);
        assert_eq!(server.out[2..4], [0x03, 0xEF]);
    }

    #[test]
    fn text_that_ends_inside_a_character_fails() {
        let server = server_after(&masked(0x81, b"\xE2\x82"));
        assert_eq!(server.events, [Owned::Failed(Violation::TextNotUtf8)]);
        let server = server_after(&[masked(0x01, b"\xE2"), masked(0x80, b"\x82")].concat());
        assert_eq!(server.events, [Owned::Failed(Violation::TextNotUtf8)]);
    }

    #[test]
    fn binary_may_hold_any_bytes() {
        let server = server_after(&masked(0x82, b"\xFF\xFE"));
        assert_eq!(server.events, [Owned::Binary(b"\xFF\xFE".into())]);
    }
}

mod limits {
    use super::*;

    const SMALL: Limits = Limits { message_bytes_max: 10, fragments_max: 4 };

    #[test]
    fn a_message_may_be_as_long_as_the_limit() {
        let mut server = End::with_limits(Role::Server, SMALL);
        server.receive(&masked(0x81, &[b'a'; 10]));
        server.receive(&[masked(0x01, &[b'a'; 5]), masked(0x80, &[b'a'; 5])].concat());
        assert_eq!(server.events, [Owned::Text("a".repeat(10)), Owned::Text("a".repeat(10))]);
    }

    #[test]
    fn one_byte_more_fails_from_the_header_alone() {
        for bytes in [
            masked(0x81, &[b'a'; 11])[..6].to_vec(),
            [masked(0x01, &[b'a'; 5]), masked(0x80, &[b'a'; 6])[..6].to_vec()].concat(),
        ] {
            let mut server = End::with_limits(Role::Server, SMALL);
            server.receive(&bytes);
            assert_eq!(server.events, [Owned::Failed(Violation::MessageTooBig)]);
            assert_eq!(server.out[2..4], [0x03, 0xF1]);
        }
    }

    #[test]
    fn control_frames_are_not_messages_and_may_be_longer() {
        let limits = Limits { message_bytes_max: 1, fragments_max: 1 };
        let bytes = [masked(0x89, &[b'p'; 125]), masked(0x8A, &[b'q'; 125])].concat();
        for chunk_len in [1, bytes.len()] {
            let mut server = End::with_limits(Role::Server, limits);
            server.receive_cut(&bytes, std::iter::repeat_n(chunk_len, bytes.len() / chunk_len));
            assert_eq!(server.events, [Owned::Ping(vec![b'p'; 125]), Owned::Pong(vec![b'q'; 125])]);
        }
        let mut server = End::with_limits(Role::Server, limits);
        server.receive(&masked(0x88, &[b"\x03\xE8".to_vec(), vec![b'r'; 123]].concat()));
        assert_eq!(server.events, [Owned::Close(CloseCode::NORMAL, "r".repeat(123))]);
    }

    #[test]
    fn a_message_is_1_mib_and_131_072_fragments_at_most_by_default() {
        let header = |len: u64| [b"\x82\xFF", &len.to_be_bytes()[..], b"\0\0\0\0"].concat();
        assert_eq!(server_after(&header(1 << 20)).events, []);
        let too_big = server_after(&header((1 << 20) + 1));
        assert_eq!(too_big.events, [Owned::Failed(Violation::MessageTooBig)]);

        let mut server = server_after(&masked(0x02, b""));
        server.receive(&masked(0x00, b"").repeat(131_072 - 1));
        assert_eq!(server.events, []);
        server.receive(&masked(0x80, b""));
        assert_eq!(server.events, [Owned::Failed(Violation::TooManyFragments)]);
    }

    #[test]
    fn a_declared_length_reserves_nothing() {
        let limits = Limits { message_bytes_max: usize::MAX, ..Limits::default() };
        let mut server = End::with_limits(Role::Server, limits);
        server.receive(b"\x82\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0\0\0abc");
        let assembly = server.connection.assembly.as_ref().unwrap();
        assert!(assembly.capacity() < 1024, "{}", assembly.capacity());
    }

    #[test]
    fn counts_of_one_message_do_not_reach_the_next() {
        let mut server = End::with_limits(Role::Server, SMALL);
        for _ in 0..5 {
            server.receive(&masked(0x01, b"a"));
            server.receive(&masked(0x00, b"b").repeat(2));
            server.receive(&masked(0x80, b"c"));
        }
        assert_eq!(server.events, vec![Owned::Text("abbc".into()); 5]);
    }

    #[test]
    fn fragments_without_end_fail() {
        let mut server = End::with_limits(Role::Server, SMALL);
        server.receive(&masked(0x01, b""));
        server.receive(&masked(0x00, b"").repeat(3));
        assert!(server.events.is_empty());
        server.receive(&masked(0x00, b""));
        assert_eq!(server.events, [Owned::Failed(Violation::TooManyFragments)]);
    }

    #[test]
    fn no_fragments_allowed_are_one_however_a_message_is_cut() {
        let limits = Limits { fragments_max: 0, ..SMALL };
        let bytes = masked(0x81, b"whole");
        for chunk_len in [1, bytes.len()] {
            let mut server = End::with_limits(Role::Server, limits);
            server.receive_cut(&bytes, std::iter::repeat_n(chunk_len, bytes.len() / chunk_len));
            server.receive(&[masked(0x01, b""), masked(0x80, b"")].concat());
            let expected =
                [Owned::Text("whole".into()), Owned::Failed(Violation::TooManyFragments)];
            assert_eq!(server.events, expected);
        }
    }

    #[test]
    fn a_small_buffer_is_kept_for_the_next_message_in_pieces() {
        let mut server = End::new(Role::Server);
        server.receive_cut(&masked(0x82, &[0; 10_000]), [1000; 9].into_iter());
        assert!(server.connection.assembly.is_none());
        assert!(server.context.pooled_bytes() >= 10_000);
        server.context.trim();
        assert_eq!(server.context.pooled_bytes(), 0);
    }

    #[test]
    fn a_large_buffer_is_kept_for_those_that_have_sent_a_good_part_of_it() {
        for first in [0x81, 0x82] {
            let mut server = End::new(Role::Server);
            server.receive_cut(&masked(first, &[b'x'; 1_000_000]), [10_000; 99].into_iter());
            assert!(server.connection.assembly.is_none());
            assert!(server.context.pooled_bytes() >= 1_000_000);
            let next = masked(first, &[b'y'; 1_000_000]);
            // With one byte, or with less than an eighth of it, a connection could hold it for nothing.
            server.receive(&next[..1]);
            server.receive(&next[1..100_000]);
            assert!(server.context.pooled_bytes() >= 1_000_000);
            server.receive(&next[100_000..900_000]);
            assert!(server.context.pooled_bytes() < 1_000_000);
            server.receive(&next[900_000..]);
            assert!(server.context.pooled_bytes() >= 1_000_000);
            let expected = ["x", "y"].map(|letter| match first {
                0x81 => Owned::Text(letter.repeat(1_000_000)),
                _ => Owned::Binary(letter.repeat(1_000_000).into()),
            });
            assert!(server.events == expected);
        }
    }

    #[test]
    fn a_large_buffer_is_kept_however_many_others_of_sizes_that_nobody_needs_are() {
        for first in [0x81, 0x82] {
            let mut server = End::new(Role::Server);
            let message = masked(first, &[b'x'; 1_000_000]);
            let begin = |server: &mut End, len: usize| {
                server.receive(&message[..len]);
                server.receive(&message[len..500_000]);
            };
            for len in (66_000..70_000).step_by(100) {
                begin(&mut server, len);
                server.receive(&message[500_000..]);
            }
            begin(&mut server, 65_900);
            let before = server.context.pooled_bytes();
            server.receive(&message[500_000..600_000]);
            assert!(server.context.pooled_bytes() + 400_000 < before, "it is in use");
        }
    }

    #[test]
    fn a_text_that_is_cut_inside_a_character_has_a_buffer_of_its_length_and_not_of_twice_as_much() {
        let text = "€".repeat(300_000);
        for cut in 60_000..60_004 {
            let mut server = End::new(Role::Server);
            server.receive_cut(&masked(0x81, text.as_bytes()), [cut].into_iter());
            assert!(server.events == [Owned::Text(text.clone())]);
            let kept = server.context.pooled_bytes();
            assert!((text.len()..text.len() + 10_000).contains(&kept), "{cut}: {kept}");
        }
    }

    #[test]
    fn large_buffers_that_nobody_needed_for_a_while_are_given_back_and_those_in_use_are_not() {
        let mut context = Context::new(Limits::default(), [0; 32]);
        let any = 0..=usize::MAX;
        for _ in 0..10 {
            context.keep_large(Vec::with_capacity(1 << 20));
        }
        context.trim_unused();
        assert_eq!(context.pooled_bytes(), 10 << 20, "they may have been needed just now");
        // Three of them at a time, again and again.
        for _ in 0..5 {
            let used: Vec<_> = (0..3).filter_map(|_| context.take_large(any.clone())).collect();
            used.into_iter().for_each(|buffer| context.keep_large(buffer));
        }
        context.trim_unused();
        assert_eq!(context.pooled_bytes(), 3 << 20);
        context.trim_unused();
        assert_eq!(context.pooled_bytes(), 0);
        assert!(context.take_large(any).is_none());
    }

    #[test]
    fn what_is_kept_of_large_buffers_is_bounded() {
        let mut context = Context::new(Limits::default(), [0; 32]);
        for _ in 0..100 {
            context.keep_large(Vec::with_capacity(1 << 20));
            context.keep_large(Vec::with_capacity(64 << 10));
        }
        assert_eq!(context.pooled_bytes(), 16 << 20);
        for _ in 0..16 {
            assert!(context.take_large(1 << 20..=2 << 20).is_some());
        }
        assert!(context.take_large(0..=usize::MAX).is_none());
        assert_eq!(context.pooled_bytes(), 0);
        for _ in 0..1000 {
            context.keep_large(Vec::with_capacity((64 << 10) + 1));
        }
        assert!(context.pooled_bytes() < 9 << 20);
    }
}

pub(super) fn frames() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        12 => prop::sample::select(vec![0x81u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A]),
        1 => Just(0x88u8),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        4 => "[aé€😀]{0,20}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..40),
        1 => vec(Just(b'x'), 120..300),
    ];
    vec((first, payload), 1..12).prop_map(|frames| {
        frames.iter().flat_map(|(first, payload)| masked(*first, payload)).collect()
    })
}

fn messages() -> impl Strategy<Value = Vec<Owned>> {
    let message = prop_oneof![
        "[aé€😀]{0,50}".prop_map(Owned::Text),
        vec(any::<u8>(), 0..300).prop_map(Owned::Binary),
        vec(Just(7u8), 65_500..65_600).prop_map(Owned::Binary),
        vec(any::<u8>(), 0..126).prop_map(Owned::Ping),
        vec(any::<u8>(), 0..126).prop_map(Owned::Pong),
    ];
    vec(message, 1..10)
}

proptest! {
    #[test]
    fn any_cutting_of_the_same_bytes_gives_the_same_events(
        bytes in frames(), cuts in vec(0usize..30, 0..60),
    ) {
        let whole = server_after(&bytes);
        let mut cut = End::new(Role::Server);
        cut.receive_cut(&bytes, cuts.into_iter());
        let mut single = End::new(Role::Server);
        single.receive_cut(&bytes, std::iter::repeat_n(1, bytes.len()));
        prop_assert_eq!(&cut.events, &whole.events);
        prop_assert_eq!(&single.events, &whole.events);
        prop_assert_eq!(&cut.out, &whole.out);
        prop_assert_eq!(&single.out, &whole.out);
    }

    #[test]
    fn what_one_end_sends_the_other_receives(
        messages in messages(), client_sends: bool, cuts in vec(0usize..2000, 0..40),
    ) {
        let (mut client, mut server) = (End::new(Role::Client), End::new(Role::Server));
        let (from, to) =
            if client_sends { (&mut client, &mut server) } else { (&mut server, &mut client) };
        for message in &messages {
            let End { connection, context, out, .. } = &mut *from;
            match message {
                Owned::Text(text) => connection.send(Message::Text(text), context, out),
                Owned::Binary(bytes) => connection.send(Message::Binary(bytes), context, out),
                Owned::Ping(payload) => connection.ping(payload, context, out),
                Owned::Pong(payload) => connection.pong(payload, context, out),
                other => panic!("not generated: {other:?}"),
            }
            .unwrap();
        }
        to.receive_cut(&from.take_out(), cuts.into_iter());
        prop_assert_eq!(&to.events, &messages);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_fail_at_most_once(
        bytes in vec(any::<u8>(), 0..200), client: bool,
    ) {
        let mut end = End::new(if client { Role::Client } else { Role::Server });
        end.receive(&bytes);
        let failures = end.events.iter().filter(|e| matches!(e, Owned::Failed(_))).count();
        prop_assert!(failures <= 1);
        prop_assert_eq!(failures == 1, end.connection.state == State::Failed);
    }
}

#[test]
fn what_came_in_part_is_being_received_until_its_message_is_whole() {
    let mut client = End::new(Role::Client);
    // A header in part, a payload in part, a fragment, a control frame in between.
    for bytes in [&b"\x02"[..], b"\x01a", b"\x89", b"\x00", b"\x80\x01"] {
        client.receive(bytes);
        assert!(client.connection.is_receiving(), "{bytes:x?}");
    }
    client.receive(b"b");
    assert!(!client.connection.is_receiving());
    client.receive(b"\x82\x00");
    assert!(!client.connection.is_receiving());
    let whole = [Owned::Ping(Vec::new()), Owned::Binary(b"ab".to_vec()), Owned::Binary(Vec::new())];
    assert_eq!(client.events, whole);
}
