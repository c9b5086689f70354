//! Requests for a WebSocket that are none, are odd, or mean two things.

use super::{
    deadlines,
    peer::{KEY, TEXT, frame, request, upgrade},
    request::{
        Judge, Request, answered, body_is_no_frame, no_http, no_second_request, not_opened,
        one_answer_then_the_end, opened, refused, told_the_version,
    },
    row::{Attack, Row, Rule, must, should},
};
use crate::target::Target;

const GET: &str = "GET";
const HTTP: &str = "HTTP/1.1";
const ERROR: &str = "a 4xx";

pub(crate) fn rows(target: &Target) -> Vec<Row> {
    let mut rows = missing(target);
    rows.extend(odd(target));
    rows.extend(smuggled(target));
    rows.extend(long(target));
    rows
}

fn row(name: &'static str, rule: Rule, expected: &'static str, requests: Vec<Request>) -> Row {
    Row::new(name, rule, expected, Attack::Requests(requests))
}

/// One request without a field.
fn without(target: &Target, field: &str, judge: Judge) -> Vec<Request> {
    vec![Request::new(field, request(target, GET, HTTP, &[field], b""), judge)]
}

/// A request for each value of a field, in place of the right one.
fn values<V: AsRef<[u8]>>(
    target: &Target,
    field: &str,
    values: &[V],
    judge: Judge,
) -> Vec<Request> {
    let case = |value: &V| {
        let value = value.as_ref();
        let line = [field.as_bytes(), b": ", value, b"\r\n"].concat();
        let name = match value.escape_ascii().to_string() {
            value if value.is_empty() => "empty".to_owned(),
            value if value.len() > 40 => format!("{field} of {} bytes", value.len()),
            value => value,
        };
        Request::new(name, request(target, GET, HTTP, &[field], &line), judge)
    };
    values.iter().map(case).collect()
}

/// A request for each of some lines that are added.
fn lines(target: &Target, lines: &[(&str, &str)], judge: Judge) -> Vec<Request> {
    let case = |(name, line): &(&str, &str)| {
        Request::new(*name, request(target, GET, HTTP, &[], line.as_bytes()), judge)
    };
    lines.iter().map(case).collect()
}

fn missing(target: &Target) -> Vec<Row> {
    let page = "a page or a 4xx";
    vec![
        row(
            "handshake/no-upgrade",
            must("RFC 6455 4.2.1 (3)"),
            page,
            without(target, "Upgrade", not_opened),
        ),
        row(
            "handshake/no-connection",
            must("RFC 6455 4.2.1 (4)"),
            page,
            without(target, "Connection", not_opened),
        ),
        row(
            "handshake/no-version",
            must("RFC 6455 4.2.1 (6)"),
            ERROR,
            without(target, "Sec-WebSocket-Version", refused),
        ),
        row(
            "handshake/no-key",
            must("RFC 6455 4.2.1 (5)"),
            ERROR,
            without(target, "Sec-WebSocket-Key", refused),
        ),
        row("handshake/no-host", must("RFC 9112 3.2"), "400", without(target, "Host", refused)),
        row(
            "handshake/version-not-13",
            must("RFC 6455 4.2.2"),
            "426 or another 4xx, with Sec-WebSocket-Version: 13",
            // Not 8, which some servers understand, and may: its frames are those of 13.
            values(target, "Sec-WebSocket-Version", &["0", "7", "14", "255"], told_the_version),
        ),
        row(
            "handshake/http-1.0",
            must("RFC 6455 4.2.1 (1)"),
            page,
            vec![Request::new("HTTP/1.0", request(target, GET, "HTTP/1.0", &[], b""), not_opened)],
        ),
        row(
            "handshake/method-post",
            must("RFC 6455 4.2.1 (1)"),
            page,
            vec![Request::new("POST", request(target, "POST", HTTP, &[], b""), not_opened)],
        ),
    ]
}

fn odd(target: &Target) -> Vec<Row> {
    let many = "a,".repeat(3000);
    let spaces = format!("a{}b", " ".repeat(6000));
    let lists = [
        values(target, "Connection", &[format!("{many}Upgrade")], answered),
        values(target, "Sec-WebSocket-Protocol", &[&many, &spaces], answered),
        values(target, "Sec-WebSocket-Extensions", &[&many, &spaces], answered),
    ];
    let host = &target.host;
    let evil = [
        "http://evil.example".to_owned(),
        "null".to_owned(),
        format!("http://{host}.evil.example"),
        format!("http://evil{host}"),
    ];
    let tls = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[0x5a; 506]].concat();
    vec![
        row(
            "handshake/bad-key",
            // 4.2.2 spares the server decoding it.
            should("RFC 6455 4.2.1 (5)"),
            ERROR,
            values(
                target,
                "Sec-WebSocket-Key",
                &["", "c2hvcnQ=", "!!!!!!!!!!!!!!!!!!!!!!==", "dGhlIHNhbXBsZSBub25jZQ"],
                refused,
            ),
        ),
        row(
            "handshake/repeated-fields",
            must("RFC 6455 11.3.1, 11.3.5; RFC 9112 3.2"),
            ERROR,
            lines(
                target,
                &[
                    ("two hosts", "Host: other.example\r\n"),
                    ("two keys", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"),
                    ("two versions", "Sec-WebSocket-Version: 8\r\n"),
                ],
                refused,
            ),
        ),
        row(
            "handshake/odd-bytes",
            must("RFC 9110 5.5, RFC 6455 4.2.1 (3)"),
            "a page or a 4xx",
            values(
                target,
                "Upgrade",
                &[&b"web\0socket"[..], b"web\xffsocket", b"\xc3\xa9", b"websocket\x7f"],
                not_opened,
            ),
        ),
        row(
            "handshake/long-lists",
            must("CVE-2021-32640, CVE-2026-55517"),
            "any answer, in time",
            lists.into_iter().flatten().collect(),
        )
        .with_cost(),
        row(
            "handshake/other-origin",
            should("RFC 6455 10.2"),
            "403, by an exact comparison",
            values(target, "Origin", &evil, refused),
        ),
        row(
            "handshake/no-http",
            should("RFC 9112 2.2"),
            "400, or 505",
            vec![
                Request::new("TLS", tls, no_http),
                Request::new("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), no_http),
                Request::new("a frame", frame(TEXT, b"hello"), no_http),
            ],
        ),
    ]
}

fn smuggled(target: &Target) -> Vec<Row> {
    let hidden = frame(TEXT, b"hidden");
    let len = hidden.len();
    let with_body = |line: String, body: &[u8]| {
        let head = request(target, GET, HTTP, &[], line.as_bytes());
        [&head, body].concat()
    };
    let chunked = [format!("{len:x}\r\n").as_bytes(), &hidden, b"\r\n0\r\n\r\n"].concat();
    let plain = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", target.path, target.host);
    let post = {
        let body = format!("0\r\n\r\n{plain}");
        let fields = format!("Transfer-Encoding: chunked\r\nContent-Length: {}", body.len());
        let (path, host) = (&target.path, &target.host);
        format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n\r\n{body}")
    };
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n".to_owned();
    let early = |bytes: &[u8]| [&upgrade(target), bytes].concat();
    let key_in = |start: &str| {
        let line = format!("{start}Sec-WebSocket-Key: {KEY}\r\n");
        request(target, GET, HTTP, &["Sec-WebSocket-Key"], line.as_bytes())
    };
    vec![
        row(
            "handshake/body",
            must("RFC 9112 6.3, CVE-2026-69243"),
            "a 4xx; never the body as frames",
            vec![
                Request::new(
                    "Content-Length",
                    with_body(format!("Content-Length: {len}\r\n"), &hidden),
                    body_is_no_frame,
                )
                .listening(),
                Request::new(
                    "chunked",
                    with_body("Transfer-Encoding: chunked\r\n".to_owned(), &chunked),
                    body_is_no_frame,
                )
                .listening(),
            ],
        ),
        row(
            "handshake/two-lengths",
            must("RFC 9112 6.3 (5)"),
            "400",
            lines(
                target,
                &[
                    ("two fields", "Content-Length: 0\r\nContent-Length: 5\r\n"),
                    ("a list", "Content-Length: 0, 5\r\n"),
                    ("a sign", "Content-Length: +0\r\n"),
                ],
                refused,
            ),
        ),
        row(
            "handshake/length-and-encoding",
            must("RFC 9112 6.1, CVE-2026-2833"),
            "one answer, and the end",
            vec![
                Request::new("upgrade", with_body(both, b"0\r\n\r\n"), one_answer_then_the_end)
                    .listening(),
                Request::new("POST", post.into_bytes(), one_answer_then_the_end).listening(),
            ],
        ),
        row(
            "handshake/early-bytes",
            must("RFC 9110 7.8, CVE-2019-17567"),
            "400; never an answer to a second request",
            vec![
                Request::new("a request", early(plain.as_bytes()), no_second_request).listening(),
                Request::new("an upgrade", early(&upgrade(target)), no_second_request).listening(),
                Request::new("a frame", early(&hidden), no_second_request).listening(),
            ],
        ),
        row(
            "handshake/hidden-lines",
            must("RFC 9112 2.2, 5.2"),
            "a 4xx; what is hidden is no field",
            vec![
                Request::new("obs-fold", key_in("X: a\r\n "), refused),
                Request::new("bare CR", key_in("X: a\r"), refused),
                Request::new("NUL", key_in("X: a\0"), refused),
            ],
        ),
        row(
            "handshake/space-before-colon",
            must("RFC 9112 5.1"),
            "400",
            lines(target, &[("a space", "X : y\r\n"), ("a tab", "X\t: y\r\n")], refused),
        ),
    ]
}

fn long(target: &Target) -> Vec<Row> {
    let mebibyte = "y".repeat(1 << 20);
    let field = format!("X: {mebibyte}\r\n");
    let fields = "X: y\r\n".repeat(20_000);
    let line = format!("GET /{mebibyte} HTTP/1.1\r\n\r\n");
    vec![
        row(
            "handshake/head-too-long",
            should("RFC 9110 5.4, RFC 6585 5; CVE-2023-43669, CVE-2024-37890"),
            "431 or another 4xx",
            vec![
                Request::new(
                    "a field of 1 MiB",
                    request(target, GET, HTTP, &[], field.as_bytes()),
                    refused,
                ),
                Request::new(
                    "20,000 fields",
                    request(target, GET, HTTP, &[], fields.as_bytes()),
                    refused,
                ),
                Request::new("a target of 1 MiB", line.into_bytes(), refused),
            ],
        )
        .with_cost(),
        row(
            "handshake/byte-at-a-time",
            // Some take it for an attack.
            should("RFC 9112 2.2"),
            "101",
            vec![Request::new("a valid request", upgrade(target), opened).bytewise()],
        )
        .with_cost(),
        Row::new(
            "handshake/never-finished",
            should("CVE-2007-6750"),
            "408 or the end, within --deadline-wait",
            Attack::Run(deadlines::unfinished_heads),
        ),
    ]
}
