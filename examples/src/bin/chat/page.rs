//! The web page: static files that are part of the binary.

use quelea::{Response, Status};

/// Nothing but this server's own files: no inline script, no other host.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The file at a path, or 404.
pub(crate) fn asset(path: &str) -> Response {
    let (content_type, body) = match path {
        "/" => (HTML, include_str!("../../../chat/web/index.html")),
        "/chat.css" => (CSS, include_str!("../../../chat/web/chat.css")),
        "/chat.js" => (SCRIPT, include_str!("../../../chat/web/chat.js")),
        "/protocol.js" => (SCRIPT, include_str!("../../../chat/web/protocol.js")),
        "/reconnect.js" => (SCRIPT, include_str!("../../../chat/web/reconnect.js")),
        "/room.js" => (SCRIPT, include_str!("../../../chat/web/room.js")),
        "/icon.svg" => (SVG, include_str!("../../../chat/web/icon.svg")),
        _ => return Response::text(Status::NOT_FOUND, "no such page\n"),
    };
    Response::new(Status::OK)
        .content(content_type, body)
        .header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        .header("X-Content-Type-Options", "nosniff")
        .header("Referrer-Policy", "no-referrer")
        .header("Cache-Control", "no-cache")
}
