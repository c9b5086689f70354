//! What is agreed on, by both roles.

use super::*;
use crate::{
    Context, Limits, Role,
    handshake::{
        ClientHandshakeError, ClientRequest, OriginPolicy, Upgrade, extensions::extensions,
    },
    http::{Fields, Request, Response},
};
use proptest::prelude::*;

const NONCE: &[u8; 16] = b"the sample nonce";

fn takeover(bits: u8, budget_bytes: usize) -> Policy {
    Policy::Takeover { window_bits: WindowBits::new(bits).unwrap(), budget_bytes }
}

const MIB: usize = 1 << 20;

/// What a server with this policy answers to these header fields.
fn answered(policy: Policy, fields: &[&str]) -> Option<String> {
    let context = Context::new(Limits::default(), [0; 32]).with_deflate(Settings::new(policy));
    let offers = extensions(fields.iter().map(|field| field.as_bytes())).map(Result::unwrap);
    agree(policy, offers, |bits| context.has_room_for_window(bits))
        .map(|parameters| parameters.to_string())
}

fn answers(policy: Policy, offer: &str, expected: &str) {
    let answer = answered(policy, &[&format!("permessage-deflate{offer}")]);
    assert_eq!(answer, Some(format!("permessage-deflate{expected}")), "{policy:?} {offer}");
}

const BY_ITSELF: &str = "; server_no_context_takeover; client_no_context_takeover";

#[test]
fn rfc7692_5_1_without_a_policy_nothing_is_agreed_on() {
    assert_eq!(answered(Policy::Off, &["permessage-deflate"]), None);
    assert_eq!(Policy::Off.offers(), []);
}

#[test]
fn rfc7692_7_1_1_shared_demands_no_context_takeover_both_ways() {
    for offer in [
        "",
        "; client_max_window_bits",
        "; client_max_window_bits=8",
        "; client_no_context_takeover",
        "; server_no_context_takeover; client_max_window_bits=\"10\"",
    ] {
        answers(Policy::Shared, offer, BY_ITSELF);
    }
}

#[test]
fn rfc7692_7_1_1_takeover_is_agreed_on_as_the_client_allows() {
    let largest = takeover(15, MIB);
    answers(largest, "", "");
    answers(largest, "; client_max_window_bits", "");
    answers(largest, "; server_no_context_takeover", "; server_no_context_takeover");
    answers(largest, "; client_no_context_takeover", "; client_no_context_takeover");
}

#[test]
fn rfc7692_7_1_2_1_the_servers_window_is_as_small_as_asked_for_and_as_the_policy_says() {
    for (bits, offer, expected) in [
        (15, "; server_max_window_bits=9", "; server_max_window_bits=9"),
        (15, "; server_max_window_bits=15", "; server_max_window_bits=15"),
        (
            11,
            "; server_max_window_bits=15; client_max_window_bits",
            "; server_max_window_bits=11; client_max_window_bits=11",
        ),
        (
            11,
            "; server_max_window_bits=10; client_max_window_bits",
            "; server_max_window_bits=10; client_max_window_bits=11",
        ),
        (11, "; client_max_window_bits", "; server_max_window_bits=11; client_max_window_bits=11"),
    ] {
        answers(takeover(bits, MIB), offer, expected);
    }
    let shared = format!("{BY_ITSELF}; server_max_window_bits=12");
    answers(Policy::Shared, "; server_max_window_bits=12", &shared);
}

#[test]
fn rfc7692_7_1_2_2_a_client_that_cannot_be_limited_is_asked_for_no_takeover() {
    for offer in ["", "; client_max_window_bits=8"] {
        let expected = "; client_no_context_takeover; server_max_window_bits=11";
        answers(takeover(11, MIB), offer, expected);
    }
    let expected = "; server_max_window_bits=11; client_max_window_bits=10";
    answers(takeover(11, MIB), "; client_max_window_bits=10", expected);
}

#[test]
fn a_server_without_room_for_a_window_asks_for_no_takeover() {
    answers(takeover(15, (32 << 10) - 1), "", "; client_no_context_takeover");
    answers(takeover(15, 32 << 10), "", "");
    let context = Context::new(Limits::default(), [0; 32])
        .with_deflate(Settings::new(takeover(15, 40 << 10)));
    let connection =
        crate::Connection::with_deflate(Role::Server, &Parameters::default(), &context);
    assert!(!context.has_room_for_window(WindowBits::MAX));
    drop(connection);
    assert!(context.has_room_for_window(WindowBits::MAX));
}

#[test]
fn rfc7692_7_1_an_offer_with_a_wrong_parameter_is_declined_and_the_next_one_is_looked_at() {
    for bad in [
        "; server_max_window_bits",
        "; server_max_window_bits=7",
        "; server_max_window_bits=8",
        "; server_max_window_bits=16",
        "; server_max_window_bits=09",
        "; server_max_window_bits=+9",
        "; server_max_window_bits=100",
        "; client_max_window_bits=7",
        "; client_max_window_bits=16",
        "; client_max_window_bits=010",
        "; client_max_window_bits=a",
        "; server_no_context_takeover=1",
        "; client_no_context_takeover=true",
        "; server_no_context_takeover; server_no_context_takeover",
        "; client_no_context_takeover; client_no_context_takeover",
        "; server_max_window_bits=10; server_max_window_bits=10",
        "; client_max_window_bits; client_max_window_bits",
        "; client_max_window_bits; client_max_window_bits=10",
        "; unknown",
        "; Server_no_context_takeover",
        "; mode=fast",
    ] {
        for policy in [Policy::Shared, takeover(15, MIB)] {
            let bad = format!("permessage-deflate{bad}");
            assert_eq!(answered(policy, &[&bad]), None, "{bad}");
            let good = "permessage-deflate; server_max_window_bits=10";
            for fields in [&[&format!("{bad}, {good}")][..], &[&bad, &good.to_owned()]] {
                let fields: Vec<_> = fields.iter().map(|field| field.as_str()).collect();
                let answer = answered(policy, &fields).unwrap();
                assert!(answer.contains("server_max_window_bits=10"), "{bad}: {answer}");
            }
        }
    }
}

#[test]
fn rfc6455_9_1_other_extensions_are_left_out() {
    for fields in [&["x-webkit-deflate-frame"][..], &["permessage-bzip2; a=\"b\"", "foo"], &[]] {
        assert_eq!(answered(Policy::Shared, fields), None);
    }
    let answer = answered(Policy::Shared, &["foo; a=1, permessage-deflate", "permessage-deflate"]);
    assert_eq!(answer, Some(format!("permessage-deflate{BY_ITSELF}")));
}

/// What a client makes of an answer to its offers.
fn checked(offers: &[Offer], answer: &str) -> Result<Option<Parameters>, ClientHandshakeError> {
    let request = ClientRequest::new("a", "/", NONCE).deflate(offers);
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{answer}\r\n"
    );
    let mut fields = Fields::new();
    let (response, _) = Response::parse(head.as_bytes(), &mut fields).unwrap().unwrap();
    let checked = request.check_deflate(&response);
    assert_eq!(request.check_response(&response).err(), checked.err());
    checked
}

#[test]
fn rfc7692_7_1_2_what_is_sent_keeps_to_our_own_window_if_the_peer_allows_a_larger_one() {
    for (policy, bits) in [(takeover(10, MIB), 10), (takeover(15, MIB), 15), (Policy::Shared, 15)] {
        let context = Context::new(Limits::default(), [0; 32]).with_deflate(Settings::new(policy));
        let connection =
            crate::Connection::with_deflate(Role::Client, &Parameters::default(), &context);
        assert_eq!(connection.compressed_window(), WindowBits::new(bits), "{policy:?}");
    }
}

#[test]
fn rfc7692_7_1_what_an_offer_is_shown_as_is_read_as_that_offer() {
    let windows: Vec<_> = (8..=15).map(WindowBits::new).collect();
    for bits in 0..4 {
        for server_max_window_bits in windows.iter().copied() {
            for client_max_window_bits in windows.iter().copied() {
                let offer = Offer {
                    server_no_context_takeover: bits & 1 > 0,
                    client_no_context_takeover: bits & 2 > 0,
                    server_max_window_bits,
                    client_max_window_bits,
                };
                assert_eq!(offer.to_string().parse(), Ok(offer));
            }
        }
    }
}

#[test]
fn rfc7692_7_1_what_nobody_may_offer_or_keep_to_is_no_offer() {
    for text in [
        "",
        "permessage-bzip2",
        "permessage-deflate, permessage-deflate",
        "permessage-deflate;",
        "permessage-deflate; x",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; client_max_window_bits=8",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=09",
    ] {
        assert_eq!(text.parse::<Offer>(), Err(InvalidOffer), "{text}");
    }
}

fn checked_parameters(
    offer: Offer,
    answer: &str,
) -> Result<Option<Parameters>, ClientHandshakeError> {
    checked(&[offer], &format!("Sec-WebSocket-Extensions: permessage-deflate{answer}\r\n"))
}

#[test]
fn rfc7692_7_1_an_answer_that_does_not_fit_the_offer_fails_the_client() {
    let bits = WindowBits::new;
    let limits = Offer {
        server_max_window_bits: bits(10),
        client_max_window_bits: bits(12),
        ..Offer::default()
    };
    let by_itself = Offer { server_no_context_takeover: true, ..Offer::default() };
    for (offer, answer) in [
        (Offer::default(), "; client_max_window_bits=10"),
        (Offer::default(), "; client_max_window_bits"),
        (Offer::default(), "; server_max_window_bits"),
        (Offer::default(), "; server_max_window_bits=16"),
        (Offer::default(), "; server_no_context_takeover=1"),
        (Offer::default(), "; server_no_context_takeover; server_no_context_takeover"),
        (Offer::default(), "; unknown"),
        (limits, ""),
        (limits, "; server_max_window_bits=11"),
        (limits, "; server_max_window_bits=10; client_max_window_bits=13"),
        (limits, "; server_max_window_bits=10; client_max_window_bits"),
        (limits, "; server_max_window_bits=10; client_max_window_bits=8"),
        (by_itself, ""),
        (by_itself, "; client_no_context_takeover"),
    ] {
        let checked = checked_parameters(offer, answer);
        assert_eq!(checked, Err(ClientHandshakeError::Deflate), "{offer} -> {answer}");
    }
    for answer in [
        "Sec-WebSocket-Extensions: x-other\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate, permessage-deflate\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Extensions: foo\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate; \r\n",
    ] {
        let checked = checked(&[Offer::default()], answer);
        assert_eq!(checked, Err(ClientHandshakeError::Extension), "{answer}");
    }
    let nothing_offered = checked(&[], "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    assert_eq!(nothing_offered, Err(ClientHandshakeError::Extension));
}

#[test]
fn rfc7692_7_1_an_answer_that_fits_any_of_the_offers_is_taken() {
    let bits = WindowBits::new;
    let offers = takeover(10, MIB).offers();
    let written: Vec<_> = offers.iter().map(ToString::to_string).collect();
    assert_eq!(
        written,
        [
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits",
            "permessage-deflate; server_no_context_takeover; client_max_window_bits",
        ]
    );
    for (answer, expected) in [
        (
            "; server_max_window_bits=8; client_max_window_bits=15",
            Parameters {
                server_max_window_bits: bits(9),
                client_max_window_bits: bits(15),
                ..Parameters::default()
            },
        ),
        (
            "; server_no_context_takeover",
            Parameters { server_no_context_takeover: true, ..Parameters::default() },
        ),
        (
            "; server_max_window_bits=\"10\"; client_no_context_takeover",
            Parameters {
                server_max_window_bits: bits(10),
                client_no_context_takeover: true,
                ..Parameters::default()
            },
        ),
    ] {
        let answer = format!("Sec-WebSocket-Extensions: permessage-deflate{answer}\r\n");
        assert_eq!(checked(&offers, &answer), Ok(Some(expected)), "{answer}");
    }
    assert_eq!(checked(&offers, ""), Ok(None));
    assert_eq!(checked(&offers, "Sec-WebSocket-Extensions: \r\n"), Ok(None));
}

#[test]
fn rfc7692_7_1_what_the_client_said_it_will_do_it_does_whatever_the_answer_says() {
    let by_itself = Offer { client_no_context_takeover: true, ..Offer::default() };
    let asks_more = Offer { server_no_context_takeover: true, ..Offer::default() };
    let answer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    for (offers, expected) in [
        (&[by_itself][..], true),
        (&[Offer::default(), by_itself], true),
        (&[asks_more, by_itself], true),
        (&[Offer::default(), Offer { server_no_context_takeover: true, ..by_itself }], false),
    ] {
        let agreed = checked(offers, answer).unwrap().unwrap();
        assert_eq!(agreed.client_no_context_takeover, expected, "{offers:?}");
    }
    let small = Offer { client_max_window_bits: WindowBits::new(10), ..Offer::default() };
    for (offers, answer, expected) in [
        (&[small][..], "", 10),
        (&[small], "; client_max_window_bits=9", 9),
        (&[small, Offer { client_max_window_bits: WindowBits::new(15), ..small }], "", 10),
        (&[Offer { server_no_context_takeover: true, ..small }, Offer::default()], "", 15),
    ] {
        let answer = format!("Sec-WebSocket-Extensions: permessage-deflate{answer}\r\n");
        let (sent, _) = checked(offers, &answer).unwrap().unwrap().directions(Role::Client);
        assert_eq!(sent.window_bits.get(), expected, "{offers:?}");
    }
}

#[test]
fn nine_to_fifteen_are_window_bits() {
    let known: Vec<_> = (0..=u8::MAX).filter_map(WindowBits::new).map(WindowBits::get).collect();
    assert_eq!(known, [9, 10, 11, 12, 13, 14, 15]);
    assert_eq!((WindowBits::MIN.bytes(), WindowBits::MAX.bytes()), (512, 32768));
}

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::Off),
        Just(Policy::Shared),
        (9u8..=15, prop::sample::select(vec![0, 3000, MIB]))
            .prop_map(|(bits, budget)| takeover(bits, budget)),
    ]
}

proptest! {
    #[test]
    fn own_client_and_own_server_agree_on_the_same_with_any_policies(
        client in policies(), server in policies(),
    ) {
        let offers = client.offers();
        let request = ClientRequest::new("a", "/", NONCE).deflate(&offers);
        let mut head = Vec::new();
        request.write(&mut head).unwrap();
        let mut fields = Fields::new();
        let parsed = Request::parse(&head, &mut fields).unwrap();
        let mut upgrade = Upgrade::check(&parsed, &OriginPolicy::SameHost).unwrap();
        let context = Context::new(Limits::default(), [0; 32]).with_deflate(Settings::new(server));
        let agreed = upgrade.negotiate_deflate(&context);
        prop_assert_eq!(agreed.is_some(), client != Policy::Off && server != Policy::Off);
        let mut answer = Vec::new();
        upgrade.write_response(None, [], &mut answer).unwrap();
        let mut fields = Fields::new();
        let (response, _) = Response::parse(&answer, &mut fields).unwrap().unwrap();
        prop_assert_eq!(request.check_response(&response), Ok(None));
        prop_assert_eq!(request.check_deflate(&response), Ok(agreed));
    }

    #[test]
    fn whatever_is_offered_the_answer_keeps_to_it(
        policy in policies(),
        parameters in prop::collection::vec(prop::sample::select(vec![
            "server_no_context_takeover", "client_no_context_takeover", "server_max_window_bits=9",
            "server_max_window_bits=15", "client_max_window_bits", "client_max_window_bits=11",
            "client_max_window_bits=8", "server_max_window_bits=8", "x", "server_max_window_bits",
        ]), 0..4),
    ) {
        let offer = [&["permessage-deflate"], &parameters[..]].concat().join(";");
        if let Some(answer) = answered(policy, &[&offer]) {
            prop_assert!(policy != Policy::Off);
            let has = |name: &str| parameters.contains(&name);
            prop_assert!(!has("x") && !has("server_max_window_bits=8"));
            prop_assert!(!has("server_no_context_takeover") || answer.contains("server_no_context_takeover"));
            prop_assert!(!has("server_max_window_bits=9") || answer.contains("server_max_window_bits=9"));
            prop_assert!(!has("server_max_window_bits=15") || answer.contains("server_max_window_bits="));
            let may_limit = has("client_max_window_bits") || has("client_max_window_bits=11");
            prop_assert!(may_limit || !answer.contains("client_max_window_bits"));
        }
    }
}
