//! The opening handshake of one connection, blocking.

use crate::{load::Deflate, target::Target};
use quelea_core::{
    deflate::Parameters,
    handshake::ClientRequest,
    http::{Fields, Response},
};
use std::{
    error::Error,
    io::{Read, Write},
    time::Duration,
};

/// The longest answer to a handshake that is waited for.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long a server may take to answer one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects and does the opening handshake, blocking.
pub(crate) fn connect(
    target: &Target,
    nonce: &[u8; 16],
) -> Result<std::net::TcpStream, Box<dyn Error>> {
    connect_offering(target, nonce, &Deflate::default()).map(|(stream, _)| stream)
}

/// The same with an offer of compression, and what was agreed on.
pub(crate) fn connect_offering(
    target: &Target,
    nonce: &[u8; 16],
    deflate: &Deflate,
) -> Result<(std::net::TcpStream, Option<Parameters>), Box<dyn Error>> {
    let mut stream = std::net::TcpStream::connect(target.address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let offers = deflate.offered.offers();
    let request = ClientRequest::new(&target.host, &target.path, nonce).deflate(offers);
    let mut head = Vec::new();
    request.write(&mut head)?;
    stream.write_all(&head)?;
    head.clear();
    // A byte at a time, so that nothing after the head is taken: this is not measured.
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
        if head.len() > HEAD_BYTES_MAX {
            return Err("the answer to the handshake is too long".into());
        }
    }
    let mut fields = Fields::new();
    let (response, _) = Response::parse(&head, &mut fields)?.ok_or("no whole answer")?;
    request.check_response(&response)?;
    let agreed = request.check_deflate(&response)?;
    if agreed.is_none() {
        deflate.check_declined()?;
    }
    Ok((stream, agreed))
}
