//! ntex, on the runtime it takes by itself: its own, with io_uring where the kernel has it. TCP_NODELAY is
//! what it sets. The upgrade is that of its `tests/http_ws.rs` and not `web::ws::start`, which cannot be
//! told to take frames of more than 64 KiB. It leaves fragments, pings, closes and UTF-8 to its user. What
//! is sent goes into the connection's write buffer, which it writes when no more is to be done: nothing is
//! batched here.
//!
//! With `--publish` all connections of the thread are in a list, so it takes one thread only.

use clap::{CommandFactory, Parser, error::ErrorKind};
use ntex::{
    SharedCfg,
    http::{HttpService, Request, Response, body::BodySize, h1},
    io::{DispatchItem, Dispatcher, Io, IoConfig, IoRef},
    rt,
    service::{Pipeline, fn_service},
    time::Seconds,
    util::{ByteString, Bytes, BytesMut},
    ws::{Codec, Frame, Item, Message, handshake},
};
use quelea_perf_peers::{Arguments, Outcome, listen};
use slab::Slab;
use std::{cell::RefCell, io, rc::Rc};

const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// So much of what is published may wait to be written to a connection.
const WRITE_BYTES_MAX: usize = 16 << 20;

thread_local! {
    static ROOM: RefCell<Slab<IoRef>> = RefCell::default();
}

#[ntex::main]
async fn main() -> Outcome {
    let arguments = Arguments::parse();
    if arguments.publish && arguments.threads.get() > 1 {
        let why = "a connection of ntex belongs to its thread: --publish takes no --threads";
        Arguments::command().error(ErrorKind::ArgumentConflict, why).exit();
    }
    let publishes = arguments.publish;
    let server = ntex::server::build().workers(arguments.threads.get());
    let server =
        server.listen("ws", listen(&arguments)?, SharedCfg::new("ws"), async move |_: &()| {
            let plain = async |_: Request| Ok::<_, io::Error>(Response::BadRequest());
            HttpService::h1(plain).control(async move |control: h1::Control<_, _>| {
                let ack = match control {
                    h1::Control::Upgrade(upgrade) => {
                        let (ack, io, request, codec) = upgrade.handle();
                        connection(io, &request, &codec, publishes).await;
                        ack
                    }
                    control => control.ack(),
                };
                Ok::<_, io::Error>(ack)
            })
        })?;
    Ok(server.run().await?)
}

/// A message of which not all fragments are here.
#[derive(Default)]
struct Fragments {
    text: bool,
    data: BytesMut,
}

impl Fragments {
    /// Gives back the whole message with its last fragment.
    fn add(&mut self, item: Item) -> Result<Option<Message>, ()> {
        let (data, last) = match item {
            Item::FirstText(data) => {
                self.text = true;
                (data, false)
            }
            Item::FirstBinary(data) => {
                self.text = false;
                (data, false)
            }
            Item::Continue(data) => (data, false),
            Item::Last(data) => (data, true),
        };
        if self.data.len() + data.len() > MESSAGE_BYTES_MAX {
            return Err(());
        }
        self.data.extend_from_slice(&data);
        if !last {
            return Ok(None);
        }
        let data = std::mem::take(&mut self.data).freeze();
        if self.text { text(data).map(Some) } else { Ok(Some(Message::Binary(data))) }
    }
}

fn text(data: Bytes) -> Result<Message, ()> {
    Ok(Message::Text(ByteString::try_from(data).map_err(drop)?))
}

async fn connection(io: Io, request: &Request, codec: &h1::Codec, publishes: bool) {
    let Ok(mut response) = handshake(request.head()) else { return };
    let response = response.message_body(());
    if io.encode((response, BodySize::None).into(), codec).is_err() {
        return;
    }
    let mut config = IoConfig::new().set_keepalive_timeout(Seconds::ZERO);
    if publishes {
        config = config.set_write_backpressure(WRITE_BYTES_MAX);
    }
    // SAFETY: nothing that `io.cfg()` gave is in use: this connection's HTTP ends here.
    unsafe { io.set_config(SharedCfg::new("ws").add(config)) };
    io.stop_timer();
    let io_ref = io.get_ref();
    let key = publishes.then(|| ROOM.with_borrow_mut(|room| room.insert(io_ref.clone())));
    let fragments = Rc::new(RefCell::new(Fragments::default()));
    let service = fn_service(async move |item: DispatchItem<Codec>| {
        let DispatchItem::Item(frame) = item else { return Ok(None) };
        let message = match frame {
            Frame::Text(data) => text(data).map(Some),
            Frame::Binary(data) => Ok(Some(Message::Binary(data))),
            Frame::Continuation(item) => fragments.borrow_mut().add(item),
            Frame::Ping(data) => return Ok(Some(Message::Pong(data))),
            Frame::Pong(_) => return Ok(None),
            Frame::Close(reason) => {
                let io = io_ref.clone();
                rt::spawn_detached(async move { io.close() });
                return Ok(Some(Message::Close(reason)));
            }
        };
        match message.map_err(|()| io::Error::from(io::ErrorKind::InvalidData))? {
            Some(message) if publishes => {
                publish(&message);
                Ok(None)
            }
            message => Ok(message),
        }
    });
    let codec = Codec::new().max_size(MESSAGE_BYTES_MAX);
    let ended = Dispatcher::new(io.seal(), codec, Pipeline::new((), service)).await;
    if let Some(key) = key {
        ROOM.with_borrow_mut(|room| room.remove(key));
    }
    // How a connection ends is nobody's concern.
    drop::<Result<(), io::Error>>(ended);
}

/// To all connections, except those that are too far behind: these are closed.
fn publish(message: &Message) {
    let codec = Codec::new();
    ROOM.with_borrow(|room| {
        for (_, io) in room {
            if io.is_wr_backpressure() || io.encode(message.clone(), &codec).is_err() {
                io.close();
            }
        }
    });
}
