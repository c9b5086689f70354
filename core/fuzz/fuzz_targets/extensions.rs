//! Any bytes as what a client offers, and as what a server answers: what is agreed on keeps to what was offered.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use quelea_core::{
    Context, Limits,
    deflate::{Offer, Policy, Settings, WindowBits},
    handshake::{ClientRequest, OriginPolicy, Refusal, Upgrade},
    http::{Fields, Request, Response},
};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// None, 0: off; shared; takeover with these window bits.
    policy: Option<u8>,
    offered: (bool, bool, u8, u8),
    header: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    if input.header.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return;
    }
    let policy = match input.policy.map(|bits| WindowBits::new(bits % 16)) {
        None => Policy::Off,
        Some(None) => Policy::Shared,
        Some(Some(window_bits)) => Policy::Takeover { window_bits, budget_bytes: 4096 },
    };
    as_offer(policy, input.header);
    let (server_no_context_takeover, client_no_context_takeover, server, client) = input.offered;
    let offer = Offer {
        server_no_context_takeover,
        client_no_context_takeover,
        server_max_window_bits: WindowBits::new(server % 16),
        client_max_window_bits: WindowBits::new(client % 16),
    };
    as_answer(offer, input.header);
});

fn as_offer(policy: Policy, header: &[u8]) {
    let mut head = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Extensions: "
        .to_vec();
    head.extend_from_slice(header);
    head.extend_from_slice(b"\r\n\r\n");
    let mut fields = Fields::new();
    let Ok(request) = Request::parse(&head, &mut fields) else { return };
    let mut upgrade = match Upgrade::check(&request, &OriginPolicy::SameHost) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return assert_eq!(refusal, Refusal::Extensions),
    };
    let context = Context::new(Limits::default(), [0; 32]).with_deflate(Settings::new(policy));
    let Some(agreed) = upgrade.negotiate_deflate(&context) else { return };
    assert!(policy != Policy::Off);
    let has = |name: &str| header.windows(name.len()).any(|part| part == name.as_bytes());
    assert!(has("permessage-deflate"));
    assert!(has("client_max_window_bits") || agreed.client_max_window_bits.is_none());
    if let Policy::Takeover { window_bits, .. } = policy {
        let client = agreed.client_max_window_bits.unwrap_or(WindowBits::MAX);
        assert!(agreed.client_no_context_takeover || client <= window_bits);
        assert!(agreed.server_max_window_bits.unwrap_or(WindowBits::MAX) <= window_bits);
    }
    let mut answer = Vec::new();
    upgrade.write_response(None, [], &mut answer).expect("nothing of the caller's is in it");
    let mut fields = Fields::new();
    assert!(matches!(Response::parse(&answer, &mut fields), Ok(Some(_))));
}

fn as_answer(offer: Offer, header: &[u8]) {
    let mut head =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Extensions: "
            .to_vec();
    head.extend_from_slice(header);
    head.extend_from_slice(b"\r\n\r\n");
    let mut fields = Fields::new();
    let Ok(Some((response, _))) = Response::parse(&head, &mut fields) else { return };
    let offers = [offer];
    let request = ClientRequest::new("a", "/", b"the sample nonce").deflate(&offers);
    let checked = request.check_deflate(&response);
    assert_eq!(request.check_response(&response).err(), checked.err());
    let Ok(Some(agreed)) = checked else { return };
    assert!(agreed.server_no_context_takeover || !offer.server_no_context_takeover);
    let server = agreed.server_max_window_bits.unwrap_or(WindowBits::MAX);
    assert!(offer.server_max_window_bits.is_none_or(|asked| server <= asked));
    let client = agreed.client_max_window_bits;
    assert!(client.is_none() || client <= offer.client_max_window_bits);
}
