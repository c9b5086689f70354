//! Any bytes: no panic; what is decoded encodes to the same bytes; a prefix that is wrong stays wrong.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quelea_core::{
    Role,
    frame::{Expect, HEADER_BYTES_MAX, Header},
};

fuzz_target!(|data: (bool, bool, &[u8])| {
    let (is_server, continuation, bytes) = data;
    let role = if is_server { Role::Server } else { Role::Client };
    let expect = Expect::from_peer_of(role, continuation);
    let whole = Header::decode(bytes, expect);
    for len in 0..bytes.len().min(HEADER_BYTES_MAX) {
        match Header::decode(&bytes[..len], expect) {
            Ok(None) => {}
            decided => {
                assert_eq!(decided, whole);
                break;
            }
        }
    }
    if let Ok(Some((header, len))) = whole {
        let mut encoded = [0; HEADER_BYTES_MAX];
        assert_eq!(header.encode(&mut encoded), len);
        assert_eq!(encoded[..len], bytes[..len]);
    }
});
