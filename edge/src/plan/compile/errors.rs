//! Pages of errors.

use std::sync::Arc;

use http::HeaderValue;

use super::Compiler;
use crate::config::model::ErrorPage;
use crate::config::section::Scalar;
use crate::config::values::{Part, StatusRange, Template, Variable};
use crate::config::At;
use crate::plan::pages::{Escape, Page, Pages};

/// The statuses of errors.
const ALL: StatusRange = StatusRange::new(400, 599);

impl Compiler<'_> {
    /// Returns the pages of a list, followed by those of what it is a part of.
    pub(super) fn pages(&mut self, own: &[ErrorPage], outer: Option<&Pages>) -> Option<Box<Pages>> {
        let mut pages: Vec<_> = own.iter().map(|page| Arc::new(self.page(page))).collect();
        pages.extend(outer.iter().flat_map(|outer| outer.pages.iter().cloned()));
        if pages.is_empty() {
            return None;
        }
        let mut made = Pages {
            intercepts: pages.iter().any(|page| page.intercepts),
            variables: Vec::new(),
            pages,
        };
        for part in made.pages.iter().flat_map(|page| &page.parts) {
            match part {
                Part::Text(_) | Part::Variable(Variable::Status | Variable::Reason) => {}
                Part::Variable(variable) if made.variables.contains(variable) => {}
                Part::Variable(variable) => made.variables.push(variable.clone()),
            }
        }
        Some(Box::new(made))
    }

    fn page(&mut self, page: &ErrorPage) -> Page {
        for At { place, value } in &page.status {
            if !value.is_in(ALL) {
                let message = format!(
                    "`{}` is no status of an error; expected some of 400 to 599",
                    value.show()
                );
                self.errors.at(*place, message);
            }
        }
        let parts = match (&page.body, &page.file) {
            (Some(body), None) => {
                self.check_page(body);
                body.value.parts().to_vec()
            }
            (None, Some(file)) => Template::lenient(file.text()).parts().to_vec(),
            (body, _) => {
                let message = match body {
                    Some(_) => "an error page has only one of `body` and `file`",
                    None => "an error page needs one of `body` and `file`",
                };
                self.errors.at(page.place, message);
                Vec::new()
            }
        };
        let content_type = match (&page.content_type, &page.file) {
            (Some(told), _) => &*told.value,
            (None, Some(file)) => {
                let ending = file.path().extension().and_then(|ending| ending.to_str());
                match ending {
                    Some("html" | "htm") => "text/html; charset=utf-8",
                    Some("json") => "application/json",
                    Some("xml") => "application/xml",
                    Some("svg") => "image/svg+xml",
                    _ => PLAIN,
                }
            }
            (None, None) => PLAIN,
        };
        let value = HeaderValue::from_str(content_type).unwrap_or_else(|_| {
            let place = page.content_type.as_ref().map_or(page.place, |at| at.place);
            let message = "`content_type` holds what no header may";
            self.errors.at(place, message);
            HeaderValue::from_static(PLAIN)
        });
        let told = page.status.iter().map(|at| at.value);
        let statuses = if page.status.is_empty() {
            vec![ALL]
        } else {
            told.collect()
        };
        Page {
            statuses,
            parts,
            content_type: value,
            escape: Escape::of(content_type),
            intercepts: page.intercept,
        }
    }

    /// As [`Compiler::check_groups`], for templates that know the answer.
    fn check_page(&mut self, body: &At<Template>) {
        let mut variables = body.value.variables();
        if variables.any(|variable| matches!(variable, Variable::Group(_))) {
            let message = "`{1}` is a group of the `regex` of a rewrite, and there is none here";
            self.errors.at(body.place, message);
        }
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";
