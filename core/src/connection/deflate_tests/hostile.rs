//! What peers send that is no compressed message, or too much of one.

use super::*;

const SMALL: Limits = Limits { message_bytes_max: 100_000, fragments_max: 1000 };

fn failed(payload: &[u8], violation: Violation) {
    for chunk_len in [1, 10_000] {
        let mut server = with_limits(Role::Server, Policy::Shared, BY_ITSELF, SMALL);
        let bytes = masked(0xc2, payload);
        server.receive_cut(&bytes, std::iter::repeat_n(chunk_len, bytes.len() / chunk_len));
        assert_eq!(server.events, [Owned::Failed(violation)], "{} bytes", payload.len());
        assert_eq!(server.out[2..4], violation.close_code().0.to_be_bytes());
        assert!(server.connection.assembly.is_none());
    }
}

fn by_oracle(message: &[u8]) -> Vec<u8> {
    let mut compressor = CompressorOxide::default();
    compressor.set_format_and_level(DataFormat::Raw, 6);
    oracle_deflate(&mut compressor, message)
}

#[test]
fn what_is_no_deflate_fails_with_1007() {
    let whole = by_oracle(b"what is cut off inside a block has no end: cut, cut, cut off");
    for payload in [
        // A block of the reserved type, a length that does not agree, a distance before the start.
        &b"\x07"[..],
        b"\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00",
        b"\xf2\x00\x11\x00\x00",
        &whole[..whole.len() / 2],
        &whole[..whole.len() - 1],
        // Stored bytes that do not come.
        b"\x00\x05\x00\xfa\xff\x48",
    ] {
        failed(payload, Violation::DeflateInvalid);
    }
}

#[test]
fn a_bomb_fails_with_1009_and_takes_no_more_memory_than_the_limit() {
    let bomb = by_oracle(&vec![0; 100_000_000]);
    assert!(bomb.len() < 100_100, "{}", bomb.len());
    for pieces in [1, 50] {
        let mut server = with_limits(Role::Server, Policy::Shared, BY_ITSELF, SMALL);
        let frames = bomb.chunks(bomb.len().div_ceil(pieces)).enumerate();
        for (index, piece) in frames {
            let first = if index == 0 { 0x42 } else { 0x00 };
            let fin = if pieces == 1 { 0x80 } else { 0 };
            server.receive(&masked(first | fin, piece));
        }
        // From an eighth of the limit on, long before its end.
        assert_eq!(server.events, [Owned::Failed(Violation::MessageTooBig)]);
        server.context.streams.trim();
        let kept = server.context.pooled_bytes();
        assert!(kept < 3 * SMALL.message_bytes_max, "{kept}");
    }
    let mut fits = by_oracle(&vec![0; SMALL.message_bytes_max]);
    let mut server = with_limits(Role::Server, Policy::Shared, BY_ITSELF, SMALL);
    server.receive(&masked(0xc2, &fits));
    assert_eq!(server.events, [Owned::Binary(vec![0; SMALL.message_bytes_max])]);
    fits = by_oracle(&vec![0; SMALL.message_bytes_max + 1]);
    failed(&fits, Violation::MessageTooBig);
}

#[test]
fn an_unfinished_message_takes_at_most_eight_times_what_came_of_it() {
    for bytes_max in [50_000, 70_000, 140_000, 600_000, 1 << 20, 1_100_000] {
        for kind in [0x41, 0x42] {
            let limits = Limits { message_bytes_max: bytes_max, ..SMALL };
            // As long as it takes, without an end.
            let mut compressor = CompressorOxide::default();
            compressor.set_format_and_level(DataFormat::Raw, 6);
            let bomb = oracle_deflate(&mut compressor, &vec![0; bytes_max]);
            let empty_blocks = b"\x00\x00\x00\xff\xff".repeat(bytes_max / 8 / 5);
            let parts = [&bomb, &b"\x00\x00\xff\xff"[..], &empty_blocks].concat();
            let mut server = with_limits(Role::Server, Policy::Shared, BY_ITSELF, limits);
            let mut came = 0;
            let mut first = kind;
            for part in parts.chunks(500) {
                server.receive(&masked(first, part));
                (first, came) = (0, came + part.len());
                let assembly = server.connection.assembly.as_ref().unwrap();
                let bytes = assembly.capacity() + assembly.inflater_bytes();
                assert!(bytes <= 8 * came + 4096, "{bytes} for {came}, limit {bytes_max}");
            }
            server.receive(&masked(0x80, b"\x00"));
            assert_eq!(server.events.len(), 1);
            assert!(!matches!(server.events[0], Owned::Failed(_)), "{bytes_max}");
        }
    }
}

#[test]
fn more_compressed_bytes_than_a_message_can_need_fail_from_the_header_alone() {
    let mut server = with_limits(Role::Server, Policy::Shared, BY_ITSELF, SMALL);
    server.receive(&masked(0xc2, &vec![0; 112_565])[..14]);
    assert_eq!(server.events, [Owned::Failed(Violation::MessageTooBig)]);
    let message = noise(SMALL.message_bytes_max);
    let mut server = with_limits(Role::Server, Policy::Shared, BY_ITSELF, SMALL);
    server.receive(&masked(0xc2, &by_oracle(&message)));
    assert_eq!(server.events, [Owned::Binary(message)]);
}

#[test]
fn bad_text_fails_as_soon_as_it_is_inflated() {
    let limits = Limits { message_bytes_max: 1 << 20, ..SMALL };
    let mut bytes = noise(400_000);
    bytes.iter_mut().for_each(|byte| *byte &= 0x7f);
    bytes[200_000] = 0xff;
    let compressed = by_oracle(&bytes);
    let mut server = with_limits(Role::Server, Policy::Shared, BY_ITSELF, limits);
    server.receive(&masked(0xc1, &compressed)[..250_000]);
    assert_eq!(server.events, [Owned::Failed(Violation::TextNotUtf8)]);
    failed_text(b"ok \xE2\x82");
    failed_text(b"\xff");
}

fn failed_text(bytes: &[u8]) {
    let mut server = server(BY_ITSELF);
    server.receive(&masked(0xc1, &by_oracle(bytes)));
    assert_eq!(server.events, [Owned::Failed(Violation::TextNotUtf8)]);
}

#[test]
fn blocks_that_say_they_are_the_last_are_counted() {
    let last = b"\x03\x00";
    let mut server = server(BY_ITSELF);
    server.receive(&masked(0xc2, &[&last.repeat(256)[..], b"\x00"].concat()));
    assert_eq!(server.events, [Owned::Binary(Vec::new())]);
    failed(&last.repeat(258), Violation::DeflateInvalid);
}

#[test]
fn a_failed_message_leaves_nothing_to_the_next_connection() {
    let mut first = server(BY_ITSELF);
    first.receive(&masked(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"));
    first.receive(&masked(0x41, b"\xf2\x48\xcd"));
    first.receive(&masked(0x80, b"\x07\x07\x07"));
    first.connection = Connection::with_deflate(Role::Server, &BY_ITSELF, &first.context);
    first.receive(&masked(0xc1, b"\xf2\x00\x11\x00\x00"));
    let failed = Owned::Failed(Violation::DeflateInvalid);
    assert_eq!(first.events, [text("Hello"), failed.clone(), failed]);
}

#[test]
fn what_a_message_took_on_the_wire_is_told_once_and_not_of_those_that_failed_or_were_plain() {
    let mut server = server(BY_ITSELF);
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    for (bytes, expected) in [
        (masked(0xc1, hello), 7),
        (masked(0x81, b"plain"), 0),
        ([masked(0x41, &hello[..3]), masked(0x80, &hello[3..])].concat(), 7),
        ([masked(0x01, b"pl"), masked(0x80, b"ain")].concat(), 0),
        (masked(0xc1, b"\x07"), 0),
    ] {
        let End { connection, context, out, .. } = &mut server;
        let mut input = bytes.clone();
        // The first poll takes all: what is told is that of the event.
        let _ = connection.poll_event(&mut Received::new(&mut input), context, out);
        assert_eq!(context.take_compressed_bytes(), expected, "{bytes:x?}");
        assert_eq!(context.take_compressed_bytes(), 0);
    }
}

#[test]
fn what_a_message_took_on_the_wire_is_not_told_of_another_that_comes_after_it() {
    let mut server = server(BY_ITSELF);
    let compressed = masked(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
    // Nobody asks, as for what comes after a close frame.
    server.receive(&compressed);
    let mut other = Connection::new(Role::Server);
    let mut bytes = masked(0x81, b"plain");
    let message = other.poll_message(&mut Received::new(&mut bytes), &server.context);
    assert_eq!(message, Some(Message::Text("plain")));
    assert_eq!(server.context.take_compressed_bytes(), 0);
    // Nor of one that stands behind it in what was received.
    let mut bytes = [compressed, masked(0x81, b"plain")].concat();
    let mut received = Received::new(&mut bytes);
    for expected in ["Hello", "plain"] {
        let End { connection, context, out, .. } = &mut server;
        let event = connection.poll_event(&mut received, context, out);
        assert_eq!(event, Ok(Some(Event::Message(Message::Text(expected)))));
    }
    assert_eq!(server.context.take_compressed_bytes(), 0);
}
