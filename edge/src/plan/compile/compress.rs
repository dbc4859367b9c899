//! Compression of routes.

use super::Compiler;
use crate::config::model::{self, Coding};
use crate::plan::compress::CompressRule;

/// Types that are compressed in themselves, beside which these are not.
const DENSE: [&str; 3] = ["image/", "audio/", "video/"];
const NOT_DENSE: [&str; 3] = ["image/svg+xml", "image/bmp", "image/x-icon"];

impl Compiler<'_> {
    /// Compiles the compression of a route, if it has one.
    pub(super) fn compress(&mut self, route: &model::Route) -> Option<Box<CompressRule>> {
        let compress = route
            .compress
            .as_ref()
            .filter(|compress| compress.enabled)?;
        if route.redirect.is_some() {
            let message = "`compress` is for bodies of answers, and a redirect needs none";
            self.errors.at(compress.place, message);
        }
        if compress.algorithms.is_empty() {
            self.errors
                .at(compress.place, "`algorithms` names no content coding");
        }
        if compress
            .level
            .is_some_and(|level| !(1..=9).contains(&level))
        {
            self.errors.at(compress.place, "`level` is none of 1 to 9");
        }
        for pattern in &compress.types {
            let lower = pattern.to_ascii_lowercase();
            let dense = DENSE.iter().any(|dense| lower.starts_with(dense));
            if dense && !NOT_DENSE.contains(&&*lower) {
                let message = format!("`{pattern}` is compressed in itself");
                self.errors.at(compress.place, message);
            } else if !lower.contains('/') {
                let message = format!("`{pattern}` is no type, such as `text/html` or `text/*`");
                self.errors.at(compress.place, message);
            }
        }
        let level = |coding| match coding {
            Coding::Zstd => 3,
            Coding::Brotli => 4,
            Coding::Gzip => 5,
        };
        let codings = compress.algorithms.iter();
        Some(Box::new(CompressRule {
            codings: codings
                .map(|coding| (*coding, compress.level.unwrap_or(level(*coding))))
                .collect(),
            types: compress
                .types
                .iter()
                .map(|pattern| pattern.to_ascii_lowercase())
                .collect(),
            min_size: compress.min_size.0,
        }))
    }
}
