//! Logs, ids and traces of requests.

use super::Compiler;
use crate::config::model;
use crate::config::section::Scalar;
use crate::config::values::{Fact, LogFormat, LogPart, LogVariable};
use crate::plan::observe::{AccessLog, Observe, RequestId, Tracing};

impl Compiler<'_> {
    pub(super) fn observe(&mut self, root: &model::Root) -> Observe {
        let request_id = root.request_id.as_ref().map(|id| RequestId {
            header: id.header.clone(),
            trust: id.trust,
        });
        if let Some(id) = &root.request_id {
            self.check_header(&id.header, id.place);
        }
        let tracing = root.tracing.as_ref().filter(|tracing| tracing.propagate);
        Observe {
            log: root.access_log.as_ref().map(|log| self.access_log(log)),
            request_id,
            tracing: tracing.map(|tracing| Tracing {
                sample: tracing.sample,
            }),
        }
    }

    fn access_log(&mut self, log: &model::AccessLog) -> AccessLog {
        if let (Some(first), false) = (log.fields.first(), log.format == LogFormat::Json) {
            self.errors
                .at(first.place, "`fields` is for `format: json`");
        }
        let mut seen: Vec<&LogVariable> = Vec::new();
        for field in &log.fields {
            if seen.contains(&&field.value) {
                let message = format!("the field `{}` stands here twice", field.value.show());
                self.errors.at(field.place, message);
            }
            seen.push(&field.value);
        }
        let parts = log.format.parts();
        AccessLog {
            to: log.to.value.clone(),
            json: parts.is_none(),
            parts: parts.unwrap_or_else(|| object(log)),
            sample: log.sample,
        }
    }
}

/// Returns the parts of a JSON object.
fn object(log: &model::AccessLog) -> Vec<LogPart> {
    let mut fields: Vec<_> = log.fields.iter().map(|field| field.value.clone()).collect();
    if fields.is_empty() {
        // The others tell the same in another form.
        let plain = Fact::ALL.iter().map(|(fact, ..)| *fact);
        let plain =
            plain.filter(|fact| !matches!(fact, Fact::Path | Fact::Query | Fact::TimeLocal));
        fields.extend(plain.map(LogVariable::Plain));
        let headers = [http::header::REFERER, http::header::USER_AGENT];
        fields.extend(headers.map(LogVariable::Header));
    }
    let mut parts = Vec::new();
    for (index, field) in fields.into_iter().enumerate() {
        let before = if index == 0 { "{" } else { "," };
        // Names hold nothing that JSON escapes.
        parts.push(LogPart::Text(format!("{before}\"{}\":", field.show())));
        parts.push(LogPart::Variable(field));
    }
    parts.push(LogPart::Text("}".to_owned()));
    parts
}
