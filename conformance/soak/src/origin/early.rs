//! An answer to a request whose body is not whole yet.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::Request;

use super::answer::body;
use super::body::Answer;
use super::{Origin, Shared};
use crate::ask::{Ask, Early};
use crate::random::Checked;

/// Answers when so much of the body is there, and reads the rest beside the answer.
pub async fn answer(origin: &Origin, ask: Ask, early: Early, request: Request<Incoming>) -> Answer {
    let version = request.version();
    let mut upload = Upload {
        body: request.into_body(),
        checked: Checked::new(Early::seed(&ask)),
        size: early.size,
    };
    if upload.read(early.after, &origin.shared).await {
        let shared = origin.shared.clone();
        // It ends with the connection.
        tokio::spawn(async move { upload.read(u64::MAX, &shared).await });
    }
    body(origin, ask, version)
}

/// The body of a request, as it comes.
struct Upload {
    body: Incoming,
    checked: Checked,
    size: u64,
}

impl Upload {
    /// Reads until so many bytes are there. Returns false when no more come.
    async fn read(&mut self, until: u64, shared: &Shared) -> bool {
        while self.checked.len < until {
            let (size, len) = (self.size, self.checked.len);
            match self.body.frame().await {
                // The proxy, or its client, gave up.
                Some(Err(_)) => return false,
                Some(Ok(frame)) => {
                    let taken = frame.data_ref().map(|data| self.checked.take(data));
                    if let Some(Err(at)) = taken {
                        let what = format!("an origin got a wrong byte at {at} of {size}");
                        shared.wrong(what);
                        return false;
                    }
                }
                None => {
                    if len != size {
                        shared.wrong(format!("an origin got {len} bytes of {size} as a whole"));
                    }
                    return false;
                }
            }
        }
        true
    }
}
