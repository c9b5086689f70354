//! Requests whose end two readers could see in different places: none of them becomes two requests,
//! or a WebSocket.

use crate::support::*;
use quelea::Config;
use std::io::Read;

/// The statuses of all answers on a connection that sends these bytes, until the server ends it.
fn statuses(server: &Running, bytes: &[u8]) -> Vec<u16> {
    let mut raw = server.connect();
    raw.send(bytes);
    let mut all = Vec::new();
    raw.stream.read_to_end(&mut all).unwrap();
    let all = String::from_utf8(all).unwrap();
    let heads = all.split("HTTP/1.1 ").skip(1);
    // A text may name the version as well.
    heads.filter_map(|head| head.split(' ').next().unwrap().parse().ok()).collect()
}

fn upgrade_with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\n{HANDSHAKE}{fields}\r\n")
}

#[test]
fn an_upgrade_with_a_body_of_any_kind_is_refused() {
    let server = Running::start();
    for fields in [
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\nContent-Length: 0\r\n",
        "Content-Length: 0, 0\r\n",
        "Content-Length: +0\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x0\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length : 0\r\n",
        " Content-Length: 0\r\n",
        "Content-Length\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: CHUNKED\r\n",
        "Transfer-Encoding:\tchunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding\u{b}: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "X: y\0\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert_eq!(statuses(&server, upgrade_with(fields).as_bytes()), [400], "{fields:?}");
    }
    assert!(server.is_silent(), "no handler saw any of them");
}

#[test]
fn what_follows_an_upgrade_before_its_answer_is_no_request_and_no_frame() {
    let server = Running::start();
    let upgrade = upgrade_with("");
    for rest in [
        b"x",
        &b"\r\n"[..],
        b"\0",
        b"0\r\n\r\n",
        b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n",
        upgrade.as_bytes(),
        &frame(TEXT, b"hi"),
        &[0xff; 100_000],
    ] {
        let bytes = [upgrade.as_bytes(), rest].concat();
        assert_eq!(statuses(&server, &bytes), [400], "{}", rest.escape_ascii());
    }
    assert!(server.is_silent(), "no handler saw any of them");
}

#[test]
fn a_body_is_never_read_as_the_next_request() {
    let server = Running::start();
    let upgrade = upgrade_with("");
    let len = upgrade.len();
    let chunked = format!("{len:x}\r\n{upgrade}\r\n0\r\n\r\n");
    for (request, status) in [
        (format!("GET /page HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n{upgrade}"), 413),
        (format!("HEAD /page HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n{upgrade}"), 413),
        (format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n{upgrade}"), 405),
        (
            format!("GET /page HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"),
            413,
        ),
        (format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"), 405),
        (format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n{upgrade}"), 405),
        (format!("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n{upgrade}"), 405),
        (format!("GET /page HTTP/1.0\r\n\r\n{upgrade}"), 200),
        (format!("GET /page HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{upgrade}"), 200),
    ] {
        assert_eq!(statuses(&server, request.as_bytes()), [status], "{request}");
    }
    assert!(server.is_silent(), "no handler saw any of them");
}

#[test]
fn requests_in_one_segment_are_answered_in_order_up_to_the_first_bad_one() {
    let server = Running::start();
    let page = "GET /page HTTP/1.1\r\nHost: a\r\n\r\n";
    let upgrade = upgrade_with("");
    for (bytes, expected) in [
        (format!("{page}{page}{upgrade}{page}"), &[200, 200, 400][..]),
        (format!("{page}{}{page}", page.replace("Host", "Hast")), &[200, 400]),
        (format!("{page}\x16\x03\x01{page}"), &[200, 400]),
        (format!("{page}{}", page.replace("1.1", "2.0")), &[200, 505]),
    ] {
        assert_eq!(statuses(&server, bytes.as_bytes()), expected, "{bytes}");
    }
    assert!(server.is_silent(), "no handler saw a connection");
}

#[test]
fn a_version_that_is_not_just_13_is_told_which_one_is_spoken() {
    let server = Running::start_with(Config::default(), "127.0.0.1:0");
    for version in [
        "",
        "12",
        "14",
        "255",
        "-13",
        "+13",
        "013",
        "13.0",
        "13, 8",
        "13,13",
        "0x0d",
        "\u{ff11}\u{ff13}",
    ] {
        let fields = HANDSHAKE.replace("Version: 13", &format!("Version: {version}"));
        let mut raw = server.connect();
        raw.send(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes());
        let (head, _) = raw.read_response();
        assert!(head.starts_with("HTTP/1.1 426 "), "{version}: {head}");
        assert!(head.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{version}: {head}");
        assert!(raw.is_at_end());
    }
}

#[test]
fn what_comes_behind_the_answer_to_an_upgrade_is_frames_or_a_violation() {
    let server = Running::start();
    for bytes in [upgrade_with("").as_bytes(), b"GET /page HTTP/1.1\r\n", b"\r\n", b"\x16\x03\x01"]
    {
        let mut raw = server.open();
        raw.send(bytes);
        assert_eq!(raw.read_close().0, 1002);
        assert!(matches!(server.called(), Called::Close(1002, ..)));
    }
}
