//! Any bytes as a request, in any cutting: no panic, the same end, and no answer that breaks its head.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quelea_core::{
    handshake::{OriginPolicy, Upgrade, wants_upgrade},
    http::{Fields, HeadLimits, HeadScanner, Request, Response, Status},
};

fuzz_target!(|chunks: Vec<&[u8]>| {
    let limits = HeadLimits { bytes_max: 1024, fields_max: 16 };
    let whole = chunks.concat();
    let (mut scanner, mut bytes, mut found) = (HeadScanner::default(), Vec::new(), Ok(None));
    for chunk in &chunks {
        bytes.extend_from_slice(chunk);
        found = scanner.scan(&bytes, &limits);
        if found != Ok(None) {
            break;
        }
    }
    let Ok(Some(len)) = HeadScanner::default().scan(&whole, &limits) else {
        assert!(!matches!(found, Ok(Some(_))), "found in pieces alone");
        return;
    };
    assert!(len <= limits.bytes_max);
    let mut fields = Fields::new();
    let Ok(request) = Request::parse(&whole[..len], &mut fields) else { return };
    assert_eq!(found, Ok(Some(len)), "what can be parsed is found in any cutting");
    let _ = (request.path(), request.query(), request.host(), request.is_keep_alive());
    assert!(request.headers().count() <= limits.fields_max);
    if let Ok(upgrade) = Upgrade::check(&request, &OriginPolicy::SameHost) {
        assert!(wants_upgrade(&request));
        let first = upgrade.subprotocols().next();
        let mut out = Vec::new();
        upgrade.write_response(first, [], &mut out).expect("the first offered can be chosen");
        let mut fields = Fields::new();
        let (response, end) = Response::parse(&out, &mut fields).unwrap().unwrap();
        assert_eq!((response.status(), end), (Status::SWITCHING_PROTOCOLS, out.len()));
    }
});
