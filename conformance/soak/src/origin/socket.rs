//! An echo over WebSocket.

use futures_util::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::WebSocketStream;

use super::answer::status;
use super::body::{runs, Answer};
use super::State;

pub fn answer(state: watch::Receiver<State>, request: Request<Incoming>) -> Answer {
    let key = request.headers().get(SEC_WEBSOCKET_KEY);
    let Some(key) = key.map(|key| derive_accept_key(key.as_bytes())) else {
        return status(StatusCode::BAD_REQUEST);
    };
    tokio::spawn(echo(state, request));
    let mut answer = status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(key) = HeaderValue::from_str(&key) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, key);
    }
    answer
}

async fn echo(mut state: watch::Receiver<State>, request: Request<Incoming>) {
    let Ok(stream) = hyper::upgrade::on(request).await else {
        return;
    };
    let stream = TokioIo::new(stream);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    let mut down = state.clone();
    let echo = async {
        while let Some(Ok(message)) = socket.next().await {
            runs(&mut state).await;
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = echo => {}
        _ = down.wait_for(|state| *state == State::Down) => {}
    }
}
