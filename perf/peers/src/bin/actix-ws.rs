//! actix-ws, tuned. TCP_NODELAY, and larger limits of a frame and a message than its own of 64 KiB and
//! 1 MiB, as its documentation has it. Nothing is batched here: what is sent in a session goes through a
//! channel to the body of the response, which takes all that is there at once.
//!
//! With `--publish` all sessions are in a list, as in its `examples/chat.rs`: one that does not read holds
//! up those that send, once its channel is full.

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, Session};
use clap::Parser;
use quelea_perf_peers::{Arguments, Outcome, listen};
use slab::Slab;
use tokio::sync::Mutex;

type Sessions = Mutex<Slab<Session>>;

const MESSAGE_BYTES_MAX: usize = 64 << 20;

fn main() -> Outcome {
    let arguments = Arguments::parse();
    let sessions = web::Data::new(Sessions::default());
    let publishes = arguments.publish;
    let app = move || {
        let sessions = publishes.then(|| sessions.clone());
        let upgrade = move |request: HttpRequest, body: web::Payload| {
            let sessions = sessions.clone();
            async move { upgrade(&request, body, sessions) }
        };
        App::new().default_service(web::to(upgrade))
    };
    actix_web::rt::System::new().block_on(async {
        let server = HttpServer::new(app).tcp_nodelay(true).workers(arguments.threads.get());
        Ok(server.listen(listen(&arguments)?)?.run().await?)
    })
}

fn upgrade(
    request: &HttpRequest,
    body: web::Payload,
    sessions: Option<web::Data<Sessions>>,
) -> actix_web::Result<HttpResponse> {
    let (response, session, messages) = actix_ws::handle(request, body)?;
    let messages = messages
        .max_frame_size(MESSAGE_BYTES_MAX)
        .aggregate_continuations()
        .max_continuation_size(MESSAGE_BYTES_MAX);
    actix_web::rt::spawn(async move {
        // How a connection ends is nobody's concern.
        let _ = match sessions {
            Some(sessions) => publish(session, messages, &sessions).await,
            None => echo(session, messages).await,
        };
    });
    Ok(response)
}

async fn echo(
    mut session: Session,
    mut messages: AggregatedMessageStream,
) -> Result<(), actix_ws::Closed> {
    while let Some(Ok(message)) = messages.recv().await {
        match message {
            AggregatedMessage::Text(text) => session.text(text).await?,
            AggregatedMessage::Binary(data) => session.binary(data).await?,
            AggregatedMessage::Ping(data) => session.pong(&data).await?,
            AggregatedMessage::Pong(_) => {}
            AggregatedMessage::Close(reason) => return session.close(reason).await,
        }
    }
    session.close(None).await
}

async fn publish(
    mut session: Session,
    mut messages: AggregatedMessageStream,
    sessions: &Sessions,
) -> Result<(), actix_ws::Closed> {
    let key = sessions.lock().await.insert(session.clone());
    let mut reason = None;
    while let Some(Ok(message)) = messages.recv().await {
        match message {
            // One whose session is closed leaves the list by itself.
            AggregatedMessage::Text(text) => {
                for (_, session) in &mut *sessions.lock().await {
                    let _ = session.text(text.clone()).await;
                }
            }
            AggregatedMessage::Binary(data) => {
                for (_, session) in &mut *sessions.lock().await {
                    let _ = session.binary(data.clone()).await;
                }
            }
            AggregatedMessage::Ping(data) => {
                if session.pong(&data).await.is_err() {
                    break;
                }
            }
            AggregatedMessage::Pong(_) => {}
            AggregatedMessage::Close(close) => {
                reason = close;
                break;
            }
        }
    }
    sessions.lock().await.remove(key);
    session.close(reason).await
}
