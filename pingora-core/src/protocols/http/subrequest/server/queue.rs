//! Messages on their way to the parent.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::protocols::http::HttpTask;

/// Messages that are not in the channel yet.
#[derive(Default)]
pub(super) struct Queue {
    tasks: VecDeque<HttpTask>,
    bytes: usize,
}

impl Queue {
    pub(super) fn push(&mut self, task: HttpTask) {
        self.bytes += size(&task);
        self.tasks.push_back(task);
    }

    pub(super) fn pop(&mut self) -> Option<HttpTask> {
        let task = self.tasks.pop_front()?;
        self.bytes = self.bytes.saturating_sub(size(&task));
        Some(task)
    }

    pub(super) fn last(&mut self) -> Option<&mut HttpTask> {
        self.tasks.back_mut()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Bytes of memory of what is queued, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Returns the memory that a message takes, about.
fn size(task: &HttpTask) -> usize {
    match task {
        HttpTask::Header(header, _) => {
            let fields = header.headers.iter();
            fields.fold(32, |size, (name, value)| {
                size + name.as_str().len() + value.len() + 32
            })
        }
        HttpTask::Body(data, _) | HttpTask::UpgradedBody(data, _) => {
            data.as_ref().map_or(0, Bytes::len)
        }
        HttpTask::Trailer(_) | HttpTask::Done | HttpTask::Failed(_) => 0,
    }
}
