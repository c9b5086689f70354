//! Any bytes as a request, in any cutting: no panic, the same end, and no answer that breaks its head.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quelea_core::{
    handshake::{OriginPolicy, Upgrade, wants_upgrade},
    http::{Fields, HeadError, HeadLimits, HeadScanner, Request, Response, Status},
};

fn scan<'c>(
    chunks: impl Iterator<Item = &'c [u8]>,
    limits: &HeadLimits,
) -> Result<Option<usize>, HeadError> {
    let (mut scanner, mut bytes) = (HeadScanner::default(), Vec::new());
    for chunk in chunks {
        bytes.extend_from_slice(chunk);
        let found = scanner.scan(&bytes, limits);
        if found != Ok(None) {
            return found;
        }
    }
    Ok(None)
}

/// A request that is accepted: random bytes alone never become one.
const VALID: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Protocol: chat, b\r\nOrigin: http://a\r\n\r\n";

fuzz_target!(|input: (u8, u8, Vec<u8>, &[u8])| {
    // A part of the valid request is replaced; all of it is, if the part is long enough.
    let (from, to, cuts, with) = input;
    let to = usize::from(to).min(VALID.len());
    let from = usize::from(from).min(to);
    let whole = [&VALID[..from], with, &VALID[to..]].concat();

    let limits = HeadLimits { bytes_max: 1024, fields_max: 16 };
    let mut rest = &whole[..];
    let mut chunks: Vec<_> = cuts
        .iter()
        .map(|len| {
            let (chunk, after) = rest.split_at(rest.len().min(usize::from(*len)));
            rest = after;
            chunk
        })
        .collect();
    chunks.push(rest);
    let in_pieces = scan(chunks.into_iter(), &limits);
    let bytewise = scan(whole.chunks(1), &limits);
    let at_once = HeadScanner::default().scan(&whole, &limits);
    let Ok(Some(len)) = at_once else {
        // Which error is found first depends on the cutting, but not whether there is one.
        for found in [in_pieces, bytewise] {
            assert_eq!(found.is_err(), at_once.is_err());
            assert!(!matches!(found, Ok(Some(_))), "found in pieces alone");
        }
        return;
    };
    // A head that comes whole is left to the parser, so a cut one may be refused earlier.
    for found in [in_pieces, bytewise] {
        assert!(found.is_err() || found == at_once, "another end");
    }
    assert!(len <= limits.bytes_max);
    let mut fields = Fields::new();
    let Ok(request) = Request::parse(&whole[..len], &mut fields) else { return };
    assert_eq!(
        (in_pieces, bytewise),
        (at_once, at_once),
        "what can be parsed is found in any cutting"
    );
    let _ = (request.path(), request.query(), request.host(), request.is_keep_alive());
    assert!(request.headers().count() <= limits.fields_max);
    let checked = Upgrade::check(&request, &OriginPolicy::SameHost);
    assert!(checked.is_ok() || whole != VALID, "the valid request is accepted");
    if let Ok(upgrade) = checked {
        assert!(wants_upgrade(&request));
        let first = upgrade.subprotocols().next();
        let mut out = Vec::new();
        upgrade.write_response(first, [], &mut out).expect("the first offered can be chosen");
        let mut fields = Fields::new();
        let (response, end) = Response::parse(&out, &mut fields).unwrap().unwrap();
        assert_eq!((response.status(), end), (Status::SWITCHING_PROTOCOLS, out.len()));
    }
});
