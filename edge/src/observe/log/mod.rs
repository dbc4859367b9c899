//! The access log: a line for each request that has ended.
//!
//! What a line tells of the request itself is taken when the request comes, before it is changed for its server: raw, into
//! memory that the worker keeps for it. At the end the line is made in other memory of the worker, with every value
//! escaped, and put into the worker's [`ring`]. A thread takes the lines of all workers and writes them ([`sink`]).

mod escape;
mod line;
mod ring;
mod sink;

use std::io;
use std::sync::Arc;

use crate::config::values::{Fact, LogPart, LogVariable};
use crate::plan::observe as plan;
pub(crate) use line::{Captured, End, Start};
use sink::Sink;

/// Returns the bit of a fact, of which there are fewer than 64.
#[inline]
fn bit(fact: Fact) -> u64 {
    1 << fact as u64
}

/// An access log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    plan: plan::AccessLog,
    /// A bit for each fact that lines have.
    facts: u64,
    sink: Arc<Sink>,
}

impl AccessLog {
    /// Opens the log of a plan; it goes on with the file of an earlier one, if it is the same.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub(crate) fn open(plan: &plan::AccessLog, before: Option<&Self>) -> io::Result<Self> {
        let same = before.filter(|before| *before.sink.target() == plan.to);
        let sink = match same {
            Some(before) => before.sink.clone(),
            None => Arc::new(Sink::open(&plan.to)?),
        };
        let facts = plan.parts.iter().map(|part| match part {
            LogPart::Variable(LogVariable::Plain(fact)) => bit(*fact),
            _ => 0,
        });
        Ok(Self {
            plan: plan.clone(),
            facts: facts.fold(0, |all, fact| all | fact),
            sink,
        })
    }

    /// Looks whether the log of a plan could be opened, without making its file.
    ///
    /// # Errors
    ///
    /// When it could not.
    pub(crate) fn check(plan: &plan::AccessLog) -> io::Result<()> {
        Sink::check(&plan.to)
    }

    /// Tells whether lines have a fact.
    #[inline]
    pub(crate) fn tells(&self, fact: Fact) -> bool {
        self.facts & bit(fact) != 0
    }

    /// Returns where lines go.
    pub(crate) fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Tells whether a request gets a line, by its status and a number of the worker's chance.
    pub(crate) fn takes(&self, status: u16, number: impl FnOnce() -> u32) -> bool {
        self.plan.sample.is_none()
            || status >= 500
            || status == line::CLIENT_LEFT
            || plan::is_in(self.plan.sample, number())
    }

    /// Takes what lines tell of a request before it is changed.
    pub(crate) fn capture(&self, start: &Start<'_>) -> Box<Captured> {
        Captured::of(&self.plan.parts, start)
    }

    /// Adds the line of a request.
    pub(crate) fn add(&self, captured: Box<Captured>, end: &End<'_>) {
        line::with(&self.plan, &captured, end, |line| self.sink.add(line));
        captured.keep();
    }
}
