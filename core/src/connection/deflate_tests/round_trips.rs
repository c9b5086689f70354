//! Any messages by any parameters, between our roles and with another implementation.

use super::*;
use miniz_oxide::MZStatus;

fn window() -> impl Strategy<Value = Option<WindowBits>> {
    prop_oneof![Just(None), (9u8..=15).prop_map(WindowBits::new)]
}

prop_compose! {
    fn parameters()(
        server_no_context_takeover: bool, client_no_context_takeover: bool,
        server_max_window_bits in window(), client_max_window_bits in window(),
    ) -> Parameters {
        Parameters {
            server_no_context_takeover, client_no_context_takeover,
            server_max_window_bits, client_max_window_bits,
        }
    }
}

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::Shared),
        (9u8..=15, select(vec![0, 10_000, 1 << 20, 8 << 20]))
            .prop_map(|(bits, budget)| takeover(bits, budget)),
    ]
}

/// Texts that have much in common, near and far.
fn texts() -> impl Strategy<Value = Vec<String>> {
    let word =
        select(vec!["quelea ", "€uro ", "{\"price\":", "0.", "1", "😀", "\n", "aaaaaaaaaaaaaaaa"]);
    let text = prop_oneof![
        4 => vec(word, 0..200).prop_map(|words| words.concat()),
        1 => (1usize..40).prop_map(|times| "far away, and again: ".repeat(100 * times)),
        1 => "[a-z0-9]{0,400}",
    ];
    vec(text, 1..12)
}

/// Some of a message, which may be anything.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => vec(select(b"abc".to_vec()), 0..400),
        1 => vec(any::<u8>(), 0..400),
        1 => (0usize..70_000).prop_map(noise),
    ]
}

/// What follows a piece: nothing, an empty block, or (with `Finish`) an end that is none (section 7.2.3.4).
fn flush() -> impl Strategy<Value = MZFlush> {
    select(vec![MZFlush::None, MZFlush::Sync, MZFlush::Full, MZFlush::Finish])
}

fn flushed(compressor: &mut CompressorOxide, piece: &[u8], flush: MZFlush) -> Vec<u8> {
    let mut out = vec![0; 2 * piece.len() + 100_000];
    let result = deflate(compressor, piece, &mut out, flush);
    assert_eq!(result.bytes_consumed, piece.len());
    out.truncate(result.bytes_written);
    if flush == MZFlush::Finish {
        assert_eq!(result.status, Ok(MZStatus::StreamEnd));
        compressor.reset();
    }
    out
}

/// A compressed binary message, in fragments of these lengths and one more.
fn in_fragments(mut payload: &[u8], lengths: &[usize]) -> Vec<u8> {
    let (mut bytes, mut first) = (Vec::new(), 0x42);
    for len in lengths {
        let (piece, rest) = payload.split_at((*len).min(payload.len()));
        bytes.extend(masked(first, piece));
        (payload, first) = (rest, 0x00);
    }
    bytes.extend(masked(first | 0x80, payload));
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_one_end_sends_the_other_receives_with_any_parameters(
        parameters in parameters(), policies in (policies(), policies()), client_sends: bool,
        texts in texts(), pieces in vec(1usize..5, 12), trims in vec(0u8..8, 12),
        cuts in vec(0usize..3000, 0..30), level in 1u8..=9,
    ) {
        let (mut client, mut server) = (
            end(Role::Client, policies.0, parameters),
            end(Role::Server, policies.1, parameters),
        );
        let (from, to) =
            if client_sends { (&mut client, &mut server) } else { (&mut server, &mut client) };
        from.context.streams.settings.level = level;
        for ((text, pieces), trim) in texts.iter().zip(pieces).zip(trims) {
            let End { connection, context, out, .. } = &mut *from;
            match trim {
                0 => {
                    connection.trim();
                }
                1 => context.trim(),
                2 => connection.ping(b"between", context, out).unwrap(),
                _ => {}
            }
            if pieces == 1 {
                connection.send(Message::Text(text), context, out).unwrap();
                continue;
            }
            let len = text.len().div_ceil(pieces).max(1);
            let mut rest = text.as_bytes();
            loop {
                let (piece, after) = rest.split_at(len.min(rest.len()));
                rest = after;
                let fin = rest.is_empty();
                connection.send_fragment(MessageKind::Text, piece, fin, context, out).unwrap();
                connection.ping(b"between", context, out).unwrap();
                if fin {
                    break;
                }
            }
        }
        to.receive_cut(&from.take_out(), cuts.into_iter());
        to.events.retain(|event| *event != Owned::Ping(b"between".into()));
        let expected: Vec<_> = texts.iter().map(|sent| text(sent)).collect();
        prop_assert_eq!(&to.events, &expected);
    }

    #[test]
    fn what_we_compress_another_implementation_reads(
        bits in 9u8..=15, texts in texts(), policy in policies(), no_takeover: bool,
    ) {
        let parameters = Parameters {
            server_no_context_takeover: no_takeover,
            server_max_window_bits: WindowBits::new(bits),
            ..Parameters::default()
        };
        let mut server = end(Role::Server, policy, parameters);
        let mut state = InflateState::new_boxed(DataFormat::Raw);
        for sent in &texts {
            let frames = frames_of(&send(&mut server, sent));
            let [(first, payload)] = &frames[..] else { panic!("one frame") };
            if *first == 0x81 {
                prop_assert_eq!(payload, sent.as_bytes());
                continue;
            }
            prop_assert!(payload.len() < sent.len());
            if no_takeover {
                state = InflateState::new_boxed(DataFormat::Raw);
            }
            let input = [payload, &[0, 0, 0xff, 0xff][..]].concat();
            let mut output = vec![0; sent.len() + 1];
            let result = inflate(&mut state, &input, &mut output, MZFlush::Sync);
            prop_assert_eq!(result.bytes_written, sent.len());
            prop_assert_eq!(&output[..sent.len()], sent.as_bytes());
        }
    }

    #[test]
    fn what_another_implementation_compresses_we_read(
        texts in texts(), no_takeover: bool, level in 0u8..10, cuts in vec(0usize..3000, 0..30),
    ) {
        let parameters = Parameters { client_no_context_takeover: no_takeover, ..Parameters::default() };
        let mut compressor = CompressorOxide::default();
        compressor.set_format_and_level(DataFormat::Raw, level);
        let mut bytes = Vec::new();
        for text in &texts {
            if no_takeover {
                compressor.reset();
            }
            bytes.extend(masked(0xc1, &oracle_deflate(&mut compressor, text.as_bytes())));
        }
        let mut server = server(parameters);
        server.receive_cut(&bytes, cuts.into_iter());
        let expected: Vec<_> = texts.iter().map(|sent| text(sent)).collect();
        prop_assert_eq!(&server.events, &expected);
    }

    #[test]
    fn wherever_another_implementation_flushes_ends_blocks_and_cuts_fragments_we_read_it(
        messages in vec((vec((piece(), flush()), 0..6), vec(0usize..500, 0..6)), 1..8),
        no_takeover: bool, level in 0u8..10, cuts in vec(0usize..3000, 0..30),
    ) {
        let parameters = Parameters { client_no_context_takeover: no_takeover, ..Parameters::default() };
        let mut compressor = CompressorOxide::default();
        compressor.set_format_and_level(DataFormat::Raw, level);
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (pieces, lengths) in &messages {
            if no_takeover {
                compressor.reset();
            }
            let (mut payload, mut message) = (Vec::new(), Vec::new());
            for (piece, flush) in pieces {
                payload.extend(flushed(&mut compressor, piece, *flush));
                message.extend_from_slice(piece);
            }
            payload.extend(flushed(&mut compressor, b"", MZFlush::Full));
            let end = payload.strip_suffix(&[0, 0, 0xff, 0xff]).unwrap();
            bytes.extend(in_fragments(end, lengths));
            expected.push(Owned::Binary(message));
        }
        let mut server = server(parameters);
        server.receive_cut(&bytes, cuts.into_iter());
        prop_assert_eq!(&server.events, &expected);
    }

    #[test]
    fn any_bytes_as_a_compressed_message_in_any_cutting_are_the_same_message_or_failure(
        payload in vec(any::<u8>(), 0..200), is_text: bool, cuts in vec(0usize..60, 0..10),
        parameters in parameters(),
    ) {
        let bytes = [
            masked(0xc2, b"\xf2\x48\xcd\xc9\xc9\x07\x00"),
            masked(if is_text { 0xc1 } else { 0xc2 }, &payload),
        ].concat();
        let mut whole = server(parameters);
        whole.receive(&bytes);
        let mut cut = server(parameters);
        cut.receive_cut(&bytes, cuts.into_iter());
        prop_assert_eq!(&cut.events, &whole.events);
        prop_assert_eq!(&cut.out, &whole.out);
    }
}

mod windows {
    use super::*;
    use miniz_oxide::inflate::{
        TINFLStatus,
        core::{DecompressorOxide, decompress, inflate_flags::TINFL_FLAG_HAS_MORE_INPUT},
    };

    /// A decompressor that has no more than a window: what refers beyond it is an error.
    struct Strict {
        state: DecompressorOxide,
        ring: Vec<u8>,
        at: usize,
    }

    impl Strict {
        fn new(bits: u8) -> Self {
            Self { state: DecompressorOxide::new(), ring: vec![0; 1 << bits], at: 0 }
        }

        fn inflate(&mut self, mut input: &[u8]) -> Vec<u8> {
            let mut output = Vec::new();
            loop {
                let (status, taken, made) = decompress(
                    &mut self.state,
                    input,
                    &mut self.ring,
                    self.at,
                    TINFL_FLAG_HAS_MORE_INPUT,
                );
                input = &input[taken..];
                output.extend_from_slice(&self.ring[self.at..self.at + made]);
                self.at = (self.at + made) % self.ring.len();
                match status {
                    TINFLStatus::HasMoreOutput => {}
                    TINFLStatus::NeedsMoreInput => return output,
                    failed => panic!("{failed:?}"),
                }
            }
        }
    }

    #[test]
    fn the_oracle_fails_what_refers_to_more_than_its_window() {
        let far = [noise(600), noise(600)].concat();
        let mut compressor = CompressorOxide::default();
        compressor.set_format_and_level(DataFormat::Raw, 6);
        let compressed = oracle_deflate(&mut compressor, &far);
        assert_eq!(Strict::new(10).inflate(&compressed), far);
        assert!(std::panic::catch_unwind(|| Strict::new(9).inflate(&compressed)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(192))]

        #[test]
        fn nothing_refers_to_more_than_the_window_that_was_agreed_on(
            bits in 9u8..=15, texts in texts(), policy in policies(), level in 1u8..=9,
        ) {
            let parameters =
                Parameters { server_max_window_bits: WindowBits::new(bits), ..Parameters::default() };
            let mut server = end(Role::Server, policy, parameters);
            server.context.streams.settings.level = level;
            let mut peer = Strict::new(bits);
            for sent in texts.iter().chain(&texts) {
                let frames = frames_of(&send(&mut server, sent));
                let [(first, payload)] = &frames[..] else { panic!("one frame") };
                if *first == 0xc1 {
                    let read = peer.inflate(&[payload, &[0, 0, 0xff, 0xff][..]].concat());
                    prop_assert_eq!(&read[..], sent.as_bytes());
                }
            }
        }
    }
}
