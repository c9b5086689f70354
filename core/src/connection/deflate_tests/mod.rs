use super::{
    tests::{End, Owned, masked},
    *,
};
use crate::{
    CloseCode, Limits, Message, MessageKind, Violation,
    deflate::{Compress, Parameters, Policy, Settings, WindowBits},
};
use miniz_oxide::{
    DataFormat, MZFlush,
    deflate::{core::CompressorOxide, stream::deflate},
    inflate::stream::{InflateState, inflate},
};
use proptest::{collection::vec, prelude::*, sample::select};

mod hostile;
mod round_trips;
mod sending;

const BY_ITSELF: Parameters = Parameters {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: None,
    client_max_window_bits: None,
};

fn takeover(bits: u8, budget_bytes: usize) -> Policy {
    Policy::Takeover { window_bits: WindowBits::new(bits).unwrap(), budget_bytes }
}

fn end(role: Role, policy: Policy, parameters: Parameters) -> End {
    with_limits(role, policy, parameters, Limits::default())
}

fn with_limits(role: Role, policy: Policy, parameters: Parameters, limits: Limits) -> End {
    let mut end = End::with_limits(role, limits);
    let settings = Settings { message_bytes_min: 20, ..Settings::new(policy) };
    end.context = Context::new(limits, [7; 32]).with_deflate(settings);
    end.connection = Connection::with_deflate(role, &parameters, &end.context);
    end
}

fn server(parameters: Parameters) -> End {
    end(Role::Server, Policy::Shared, parameters)
}

fn send(end: &mut End, text: &str) -> Vec<u8> {
    let End { connection, context, out, .. } = end;
    connection.send(Message::Text(text), context, out).unwrap();
    end.take_out()
}

fn text(text: &str) -> Owned {
    Owned::Text(text.into())
}

/// What is in no way like itself.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let step = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(step).collect()
}

/// Compressed by another implementation, as one message after the other.
fn oracle_deflate(compressor: &mut CompressorOxide, message: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 2 * message.len() + 1000];
    let result = deflate(compressor, message, &mut out, MZFlush::Sync);
    assert_eq!(result.bytes_consumed, message.len());
    out.truncate(result.bytes_written);
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

/// The payload of each frame a server sent, with the first byte of each.
fn frames_of(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (len, rest) = match second {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
            len => (usize::from(*len), rest),
        };
        frames.push((*first, rest[..len].to_vec()));
        bytes = &rest[len..];
    }
    frames
}

#[test]
fn a_connection_takes_as_much_with_compression_as_without() {
    let shared = server(BY_ITSELF);
    assert!(size_of::<Connection>() <= 24, "{}", size_of::<Connection>());
    assert!(shared.connection.rare.is_none());
}

mod rfc7692_6_framing {
    use super::*;

    #[test]
    fn rsv1_stands_on_the_first_frame_of_a_message_only_and_only_if_it_was_agreed_on() {
        let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
        for bytes in [
            masked(0xc9, b""),
            masked(0xca, b""),
            masked(0xc8, b""),
            masked(0xa1, hello),
            masked(0x91, hello),
            masked(0xe1, hello),
            [masked(0x41, hello), masked(0xc0, b"")].concat(),
            [masked(0x01, b"a"), masked(0xc0, b"")].concat(),
        ] {
            for chunk_len in [1, bytes.len()] {
                let mut server = server(BY_ITSELF);
                server.receive_cut(&bytes, std::iter::repeat_n(chunk_len, bytes.len() / chunk_len));
                assert_eq!(server.events, [Owned::Failed(Violation::ReservedBits)], "{bytes:x?}");
            }
        }
        let mut plain = End::with_limits(Role::Server, Limits::default());
        plain.receive(&masked(0xc1, hello));
        assert_eq!(plain.events, [Owned::Failed(Violation::ReservedBits)]);
    }

    #[test]
    fn plain_messages_may_stand_between_compressed_ones() {
        let mut server = server(Parameters::default());
        server.receive(&masked(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"));
        server.receive(&masked(0x81, b"plain, and no part of the window"));
        server.receive(&masked(0xc1, b"\xf2\x00\x11\x00\x00"));
        let plain = text("plain, and no part of the window");
        assert_eq!(server.events, [text("Hello"), plain, text("Hello")]);
    }
}

mod rfc7692_7_2_3_examples {
    use super::*;

    fn reads(parameters: Parameters, frames: &[(u8, &[u8])], expected: &[&str]) {
        let bytes: Vec<u8> =
            frames.iter().flat_map(|(first, payload)| masked(*first, payload)).collect();
        for chunk_len in [1, 3, bytes.len()] {
            let mut server = server(parameters);
            server.receive_cut(&bytes, std::iter::repeat_n(chunk_len, bytes.len() / chunk_len));
            let expected: Vec<_> = expected.iter().map(|expected| text(expected)).collect();
            assert_eq!(server.events, expected, "{bytes:x?}");
        }
    }

    #[test]
    fn section_7_2_3_1_a_message_compressed_using_one_block() {
        reads(BY_ITSELF, &[(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00")], &["Hello"]);
        reads(BY_ITSELF, &[(0x41, b"\xf2\x48\xcd"), (0x80, b"\xc9\xc9\x07\x00")], &["Hello"]);
    }

    #[test]
    fn section_7_2_3_2_sharing_the_window() {
        let first: (u8, &[u8]) = (0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
        reads(Parameters::default(), &[first, first], &["Hello", "Hello"]);
        reads(
            Parameters::default(),
            &[first, (0xc1, b"\xf2\x00\x11\x00\x00")],
            &["Hello", "Hello"],
        );
        // Without takeover there is nothing to refer to.
        let mut server = server(BY_ITSELF);
        server.receive(&masked(first.0, first.1));
        server.receive(&masked(0xc1, b"\xf2\x00\x11\x00\x00"));
        assert_eq!(server.events, [text("Hello"), Owned::Failed(Violation::DeflateInvalid)]);
        assert_eq!(server.out[2..4], CloseCode::INVALID_PAYLOAD.0.to_be_bytes());
    }

    #[test]
    fn section_7_2_3_3_a_block_with_no_compression() {
        let payload = b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00";
        reads(BY_ITSELF, &[(0xc1, payload)], &["Hello"]);
    }

    #[test]
    fn section_7_2_3_4_a_block_with_bfinal_is_not_the_last_of_the_connection() {
        let last: (u8, &[u8]) = (0xc1, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00");
        reads(BY_ITSELF, &[last, last], &["Hello", "Hello"]);
        // The window goes on behind it, in the next message and in the same one.
        reads(Parameters::default(), &[last, (0xc1, b"\xf2\x00\x11\x00\x00")], &["Hello", "Hello"]);
        reads(
            BY_ITSELF,
            &[(0xc1, b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x00\x11\x00\x00")],
            &["HelloHello"],
        );
        // The byte that should follow it is not missed.
        reads(BY_ITSELF, &[(0xc1, b"\xf3\x48\xcd\xc9\xc9\x07\x00"), last], &["Hello", "Hello"]);
    }

    #[test]
    fn section_7_2_3_5_two_blocks_in_one_message() {
        let payload = b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00";
        reads(BY_ITSELF, &[(0xc1, payload)], &["Hello"]);
    }

    #[test]
    fn section_7_2_3_6_an_empty_message_is_a_zero_byte() {
        reads(BY_ITSELF, &[(0xc1, b"\x00"), (0xc1, b"")], &["", ""]);
        reads(BY_ITSELF, &[(0x41, b""), (0x00, b"\x00"), (0x80, b"")], &[""]);
        let mut server = server(BY_ITSELF);
        let End { connection, context, out, .. } = &mut server;
        connection.send_with(Message::Text(""), Compress::Yes, context, out).unwrap();
        assert_eq!(out, b"\x81\x00", "plain it is shorter");
    }
}
