//! Any bytes as the answer to a client's handshake: no panic, and none is accepted without the key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quelea_core::{
    handshake::ClientRequest,
    http::{Fields, Response},
};

/// An answer that is accepted: random bytes alone never become one.
const VALID: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Sec-WebSocket-Protocol: chat\r\n\r\n";

fuzz_target!(|input: (u8, u8, &[u8])| {
    // A part of the valid answer is replaced; all of it is, if the part is long enough.
    let (from, to, with) = input;
    let to = usize::from(to).min(VALID.len());
    let from = usize::from(from).min(to);
    let bytes = [&VALID[..from], with, &VALID[to..]].concat();

    let request = ClientRequest::new("a", "/", b"the sample nonce").subprotocols(&["chat"]);
    let mut fields = Fields::new();
    let parsed = Response::parse(&bytes, &mut fields);
    if bytes == VALID {
        let Ok(Some((response, len))) = parsed else { panic!("the valid answer is parsed") };
        assert_eq!((request.check_response(&response), len), (Ok(Some("chat")), VALID.len()));
    } else if let Ok(Some((response, len))) = parsed {
        assert!(len <= bytes.len());
        if let Ok(subprotocol) = request.check_response(&response) {
            assert!(matches!(subprotocol, None | Some("chat")));
            assert!(bytes.starts_with(b"HTTP/1.1 101"));
            let accept = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
            assert!(bytes[..len].windows(accept.len()).any(|window| window == accept));
        }
    }
});
