//! web-socket. TCP_NODELAY; reads are buffered, as in its examples, and so are writes, for which it has
//! `flash`: answers are flushed when no whole frame is left in the read buffer. It leaves fragments, pongs,
//! closes and UTF-8 to its user, who does here what its `examples/autobahn.rs` does.
//!
//! With `--publish` the halves of the socket are two `WebSocket`s, as in its `examples/chatroom.rs`.

use clap::Parser;
use quelea_perf_peers::{
    Arguments, BATCH_MAX, Outcome, batch::whole_frame, room::Room, runtime, serve,
};
use std::{
    io::{self, ErrorKind},
    mem,
    pin::pin,
    str,
    sync::Arc,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc::{self, Receiver},
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use web_socket::{DataType, Event, MessageType, Stream, WebSocket};

type Reader = WebSocket<BufReader<OwnedReadHalf>>;
type Writer = WebSocket<BufWriter<OwnedWriteHalf>>;

/// What a client sent.
enum Received {
    Message(MessageType, Box<[u8]>),
    Ping(Box<[u8]>),
    Close(u16),
}

/// What a connection is to send.
#[derive(Clone)]
enum Queued {
    Text(Arc<str>),
    Binary(Arc<[u8]>),
    Pong(Arc<[u8]>),
    Close(u16),
}

/// With less, its long messages take more reads and writes.
const BUFFER_BYTES: usize = 128 << 10;
const HEAD_BYTES_MAX: usize = 16 << 10;
/// A message in fragments; one frame may have 16 MiB, which the crate sees to.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Pongs and closes that a connection owes its client at any one time.
const CONTROL_MAX: usize = 16;

fn main() -> Outcome {
    let arguments = Arguments::parse();
    let room = arguments.publish.then(Room::new);
    serve(&arguments, &runtime(&arguments).build()?, |stream| connection(stream, room.clone()))
}

async fn connection(stream: TcpStream, room: Option<Arc<Room<Queued>>>) -> Outcome {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let mut read = BufReader::with_capacity(BUFFER_BYTES, read);
    let mut write = BufWriter::with_capacity(BUFFER_BYTES, write);
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(&read_key(&mut read).await?)
    );
    write.write_all(response.as_bytes()).await?;
    write.flush().await?;
    let (reader, writer) = (WebSocket::server(read), WebSocket::server(write));
    match room {
        Some(room) => publish(reader, writer, &room).await,
        None => echo(reader, writer).await,
    }
}

/// Reads a head, and nothing after it.
async fn read_key(read: &mut BufReader<OwnedReadHalf>) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || read.read_until(b'\n', &mut head).await? == 0 {
            return Err(ErrorKind::InvalidData.into());
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(&head).map_err(io::Error::other)?;
    let mut headers = request.headers.iter();
    let key = headers.find(|header| header.name.eq_ignore_ascii_case("sec-websocket-key"));
    Ok(key.ok_or(ErrorKind::InvalidData)?.value.to_owned())
}

/// The next whole message, ping or close.
async fn receive(reader: &mut Reader, fragments: &mut Vec<u8>) -> io::Result<Received> {
    loop {
        match reader.recv_event().await? {
            Event::Data { ty: DataType::Complete(kind), data } => {
                return Ok(Received::Message(kind, data));
            }
            Event::Data { ty: DataType::Stream(stream), data } => {
                if fragments.len() + data.len() > MESSAGE_BYTES_MAX {
                    return Err(ErrorKind::InvalidData.into());
                }
                fragments.extend_from_slice(&data);
                if let Stream::End(kind) = stream {
                    return Ok(Received::Message(kind, mem::take(fragments).into_boxed_slice()));
                }
            }
            Event::Ping(data) => return Ok(Received::Ping(data)),
            Event::Pong(_) => {}
            Event::Error(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
            Event::Close { code, .. } => return Ok(Received::Close(code)),
        }
    }
}

async fn echo(mut reader: Reader, mut writer: Writer) -> Outcome {
    let mut fragments = Vec::new();
    loop {
        if !whole_frame(reader.stream.buffer()) {
            writer.flash().await?;
        }
        match receive(&mut reader, &mut fragments).await? {
            Received::Message(MessageType::Text, data) => {
                writer.send(str::from_utf8(&data)?).await?;
            }
            Received::Message(MessageType::Binary, data) => writer.send(&*data).await?,
            Received::Ping(data) => writer.send_pong(data).await?,
            Received::Close(code) => return Ok(writer.close(code).await?),
        }
    }
}

async fn publish(mut reader: Reader, writer: Writer, room: &Arc<Room<Queued>>) -> Outcome {
    let (_member, inbox) = room.join();
    let (control, controls) = mpsc::channel(CONTROL_MAX);
    let read = async move {
        let mut fragments = Vec::new();
        loop {
            match receive(&mut reader, &mut fragments).await? {
                Received::Message(MessageType::Text, data) => {
                    room.publish(&Queued::Text(str::from_utf8(&data)?.into()));
                }
                Received::Message(MessageType::Binary, data) => {
                    room.publish(&Queued::Binary(data.into()));
                }
                // One that sends pings and does not read the pongs is let go.
                Received::Ping(data) => control.try_send(Queued::Pong(data.into()))?,
                Received::Close(code) => return Ok(control.try_send(Queued::Close(code))?),
            }
        }
    };
    let mut write = pin!(write(writer, inbox, controls));
    tokio::select! {
        // It has fallen behind, or the connection broke.
        written = &mut write => written,
        // What the reader had for the writer is still to be written: it ends when that is.
        read = read => read.and(write.await),
    }
}

async fn write(
    mut writer: Writer,
    mut inbox: Receiver<Queued>,
    mut controls: Receiver<Queued>,
) -> Outcome {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        tokio::select! {
            biased;
            queued = controls.recv() => match queued {
                Some(queued) => batch.push(queued),
                None => return Ok(()),
            },
            count = inbox.recv_many(&mut batch, BATCH_MAX) => if count == 0 {
                return Ok(());
            },
        }
        for queued in batch.drain(..) {
            match queued {
                Queued::Text(text) => writer.send(&*text).await?,
                Queued::Binary(data) => writer.send(&*data).await?,
                Queued::Pong(data) => writer.send_pong(data).await?,
                Queued::Close(code) => return Ok(writer.close(code).await?),
            }
        }
        writer.flash().await?;
    }
}
