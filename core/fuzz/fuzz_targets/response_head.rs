//! Any bytes as the answer to a client's handshake: no panic, and none is accepted without the key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quelea_core::{
    handshake::ClientRequest,
    http::{Fields, Response},
};

fuzz_target!(|bytes: &[u8]| {
    let request = ClientRequest::new("a", "/", b"the sample nonce").subprotocols(&["chat"]);
    let mut fields = Fields::new();
    if let Ok(Some((response, len))) = Response::parse(bytes, &mut fields) {
        assert!(len <= bytes.len());
        if request.check_response(&response).is_ok() {
            let accept = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
            assert!(bytes[..len].windows(accept.len()).any(|window| window == accept));
        }
    }
});
