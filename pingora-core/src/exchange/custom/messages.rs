//! Custom messages: both directions, beside the bodies.

use std::collections::VecDeque;
use std::future::{poll_fn, Future};
use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use pingora_error::{Error, Result};
use tokio::sync::mpsc;

use super::loan::{Lent, Loan};
use super::{lost, LAST_MESSAGES, LAST_WRITE};
use crate::protocols::http::custom::{CustomMessageWrite, CUSTOM_MESSAGE_QUEUE_SIZE};

/// The messages that a session receives.
pub type Reader = Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;

/// The ends of a session's messages that it gives away.
#[derive(Default)]
pub struct Ends {
    /// Those that come.
    pub reader: Option<Reader>,
    /// By which others are sent.
    pub writer: Option<Box<dyn CustomMessageWrite>>,
}

/// The rest of an exchange's messages.
pub struct Left {
    /// The client's ends, to be given back to its session.
    pub client: Ends,
    /// A message to the client was cut, or its writer failed: nothing may follow on that session.
    pub client_cut: bool,
    /// The upstream was sent all of its messages and their end.
    pub upstream_whole: bool,
}

/// Whom a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The client.
    Downstream,
    /// The upstream.
    Upstream,
}

/// The messages of an exchange.
pub struct Messages {
    up: Direction,
    down: Direction,
    /// The direction that is looked at first: they take turns.
    up_first: bool,
}

/// The senders of an application's own messages: to the upstream, and to the client.
pub type Senders = (mpsc::Sender<Bytes>, mpsc::Sender<Bytes>);

impl Messages {
    /// The messages between two sessions, of which one may know nothing of them.
    pub fn new(downstream: Ends, upstream: Ends) -> (Self, Senders) {
        let (to_upstream, own_up) = mpsc::channel(CUSTOM_MESSAGE_QUEUE_SIZE);
        let (to_downstream, own_down) = mpsc::channel(CUSTOM_MESSAGE_QUEUE_SIZE);
        let messages = Messages {
            up: Direction::new(downstream.reader, own_up, upstream.writer),
            down: Direction::new(upstream.reader, own_down, downstream.writer),
            up_first: true,
        };
        (messages, (to_upstream, to_downstream))
    }

    /// The next message that came, to be filtered and then [passed](Self::pass). Sends what was passed meanwhile.
    ///
    /// # Errors
    /// Those of a reader or a writer; the error says which side's.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<(From, Bytes)>> {
        self.up_first = !self.up_first;
        for up in [self.up_first, !self.up_first] {
            let (direction, from) = if up {
                (&mut self.up, From::Downstream)
            } else {
                (&mut self.down, From::Upstream)
            };
            if let Poll::Ready(message) = direction.poll_message(cx) {
                return Poll::Ready(match message {
                    Ok(message) => Ok((from, message)),
                    Err((e, of_reader)) => Err(if up == of_reader {
                        e.into_down()
                    } else {
                        e.into_up()
                    }),
                });
            }
        }
        Poll::Pending
    }

    /// Sends a message that came from this side to the other, when its turn comes.
    pub fn pass(&mut self, from: From, message: Bytes) {
        match from {
            From::Downstream => self.up.queue(message),
            From::Upstream => self.down.queue(message),
        }
    }

    /// Ready when everything that was passed was sent. Receives none.
    ///
    /// # Errors
    /// Those of a writer.
    pub fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let up = self.up.poll_sent(cx).map_err(|e| e.into_up())?;
        let down = self.down.poll_sent(cx).map_err(|e| e.into_down())?;
        if up.is_ready() && down.is_ready() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Neither receives from the client nor sends to it any longer.
    pub fn lose_client(&mut self) {
        self.up.over = true;
        self.down.fail();
    }

    /// Ends both directions. Of an exchange that has `succeeded` all that was passed is sent, if that does not take too
    /// long. In any case a message that is being written to the client has a few seconds to leave whole.
    pub async fn end(self, succeeded: bool) -> Left {
        let Messages {
            mut up, mut down, ..
        } = self;
        let to_upstream = async {
            let sent = async {
                poll_fn(|cx| up.poll_sent(cx)).await?;
                up.finish().await
            };
            succeeded && in_time(LAST_MESSAGES, sent).await
        };
        let to_client = async {
            if succeeded {
                in_time(LAST_MESSAGES, poll_fn(|cx| down.poll_sent(cx))).await;
            }
            down.queue.clear();
            in_time(LAST_WRITE, poll_fn(|cx| down.poll_sent(cx))).await
        };
        let (upstream_sent, client_sent) = tokio::join!(to_upstream, to_client);
        Left {
            client_cut: !client_sent || down.failed,
            upstream_whole: upstream_sent && !up.failed,
            client: Ends {
                reader: up.reader,
                writer: down.writer.and_then(Loan::into_inner),
            },
        }
    }
}

/// Returns whether `work` has succeeded within that time.
async fn in_time(limit: Duration, work: impl Future<Output = Result<()>>) -> bool {
    matches!(tokio::time::timeout(limit, work).await, Ok(Ok(())))
}

type Writer = Loan<Box<dyn CustomMessageWrite>, Result<()>>;

/// One direction.
struct Direction {
    reader: Option<Reader>,
    /// The reader has none more, or has failed. It is kept, as its session is given it back.
    over: bool,
    /// The writer has failed, perhaps in the middle of a message, and takes none.
    failed: bool,
    /// Those of the application, which pass no filter.
    own: Option<mpsc::Receiver<Bytes>>,
    writer: Option<Writer>,
    queue: VecDeque<Bytes>,
}

impl Direction {
    fn new(
        reader: Option<Reader>,
        own: mpsc::Receiver<Bytes>,
        writer: Option<Box<dyn CustomMessageWrite>>,
    ) -> Self {
        Direction {
            over: reader.is_none(),
            failed: false,
            reader,
            own: Some(own),
            writer: writer.map(Loan::new),
            queue: VecDeque::new(),
        }
    }

    /// An error comes with whether it is the reader's.
    fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<std::result::Result<Bytes, (Box<Error>, bool)>> {
        loop {
            // No more is taken than is sent.
            ready!(self.poll_sent(cx)).map_err(|e| (e, false))?;
            if let Some(own) = &mut self.own {
                match own.poll_recv(cx) {
                    Poll::Ready(Some(message)) => {
                        self.queue(message);
                        continue;
                    }
                    Poll::Ready(None) => self.own = None,
                    Poll::Pending => {}
                }
            }
            let Some(reader) = self.reader.as_mut().filter(|_| !self.over) else {
                return Poll::Pending;
            };
            match ready!(reader.poll_next_unpin(cx)) {
                Some(Ok(message)) => return Poll::Ready(Ok(message)),
                Some(Err(e)) => {
                    self.over = true;
                    return Poll::Ready(Err((e, true)));
                }
                None => self.over = true,
            }
        }
    }

    fn queue(&mut self, message: Bytes) {
        if self.writer.is_some() && !self.failed {
            self.queue.push_back(message);
        }
    }

    fn fail(&mut self) {
        self.failed = true;
        self.queue.clear();
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(writer) = self.writer.as_mut().filter(|_| !self.failed) else {
            return Poll::Ready(Ok(()));
        };
        loop {
            if writer.is_out() {
                if let Err(e) = ready!(writer.poll(cx)) {
                    self.fail();
                    return Poll::Ready(Err(e));
                }
            }
            let Some(message) = self.queue.pop_front() else {
                return Poll::Ready(Ok(()));
            };
            writer.start(|lent| send(lent, Some(message)));
        }
    }

    async fn finish(&mut self) -> Result<()> {
        let Some(writer) = self.writer.as_mut().filter(|_| !self.failed) else {
            return Ok(());
        };
        writer.start(|lent| send(lent, None));
        poll_fn(|cx| writer.poll(cx)).await
    }
}

/// Sends a message, or says that there are no more.
async fn send(mut lent: Lent<Box<dyn CustomMessageWrite>>, message: Option<Bytes>) -> Result<()> {
    match (lent.get_mut(), message) {
        (Some(writer), Some(message)) => writer.write_custom_message(message).await,
        (Some(writer), None) => writer.finish_custom().await,
        (None, _) => Err(lost()),
    }
}
