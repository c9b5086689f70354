//! Rooms to talk in: one binary that serves its own web page.
//!
//! `cargo run --release --bin chat`, then open <http://127.0.0.1:9001/> in two tabs.

mod page;
mod protocol;
mod rooms;
#[cfg(test)]
mod simulation;

use clap::Parser;
use protocol::{FromClient, Refusal, SUBPROTOCOL};
use quelea::{
    Accept, CloseCode, Closed, Conn, Handle, Handler, Message, Request, Response, Server, Status,
    Upgrade, Worker,
};
use quelea_examples::{logging, server};
use rooms::{Rooms, Seat};
use std::sync::Arc;

/// A chat server with its web page.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    server: server::Options,
}

/// The client broke the protocol; it does not come back by itself.
const MISUSE: CloseCode = CloseCode(4000);
/// The room or the name cannot be had.
const BAD_SEAT: CloseCode = CloseCode(4001);

/// One worker's part: the rooms are those of all.
struct Chat {
    rooms: Arc<Rooms>,
    handle: Handle,
}

/// What is kept for each connection: until it opens, what it asked for.
#[derive(Default)]
enum Guest {
    #[default]
    Nobody,
    Refused(Refusal),
    Wants {
        room: String,
        name: String,
    },
    Seated(Seat),
}

impl Handler for Chat {
    type State = Guest;

    fn on_request(&mut self, request: &Request<'_>) -> Response {
        page::asset(request.path())
    }

    fn on_upgrade(&mut self, upgrade: &Upgrade<'_>) -> Result<Accept<Guest>, Response> {
        let Some(room) = upgrade.path().strip_prefix("/rooms/") else {
            return Err(Response::text(Status::NOT_FOUND, "rooms are at /rooms/ROOM\n"));
        };
        if !upgrade.subprotocols().any(|offered| offered == SUBPROTOCOL) {
            let text = format!("this speaks the subprotocol {SUBPROTOCOL}\n");
            return Err(Response::text(Status::BAD_REQUEST, text));
        }
        // A browser's page cannot see an HTTP status: what it has to tell its user comes as a
        // close code.
        let guest = match protocol::seat(room, upgrade.query().unwrap_or_default()) {
            Ok((room, name)) => Guest::Wants { room, name },
            Err(refusal) => Guest::Refused(refusal),
        };
        Ok(Accept::new(guest).subprotocol(SUBPROTOCOL))
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Guest>) {
        match std::mem::take(conn.state) {
            Guest::Wants { room, name } => {
                let seat = self.rooms.join(conn, &self.handle, room, name);
                *conn.state = Guest::Seated(seat);
            }
            Guest::Refused(refusal) => {
                conn.close(BAD_SEAT, refusal.reason());
            }
            Guest::Nobody | Guest::Seated(_) => {}
        }
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Guest>, message: Message<'_>) {
        let Guest::Seated(seat) = &*conn.state else { return };
        let seat = seat.clone();
        let Message::Text(text) = message else {
            conn.close(MISUSE, "messages are JSON text");
            return;
        };
        match serde_json::from_str(text) {
            Ok(FromClient::Message { text }) => self.rooms.say(conn, &self.handle, &seat, text),
            Ok(FromClient::Typing) => Rooms::typing(conn, &seat),
            Err(error) => {
                conn.close(MISUSE, &format!("not of {SUBPROTOCOL}: {error}"));
            }
        }
    }

    fn on_close(&mut self, conn: &mut Conn<'_, Guest>, _closed: &Closed<'_>) {
        if let Guest::Seated(seat) = std::mem::take(conn.state) {
            self.rooms.leave(&self.handle, &seat);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    logging::start();
    let rooms = Arc::new(Rooms::new());
    let make = move |worker: Worker| Chat { rooms: rooms.clone(), handle: worker.handle().clone() };
    let server = Server::new(make)
        .config(arguments.server.config())?
        .drain_on_signals(arguments.server.drain())?;
    let server = server.listen(&*arguments.server.listen)?;
    for address in server.local_addresses() {
        tracing::info!("open http://{address}/ in a browser");
    }
    let _metrics = arguments.server.start_metrics(server.handle())?;
    Ok(server.run()?)
}
