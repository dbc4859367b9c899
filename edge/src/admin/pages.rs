//! The dashboard: files that are part of the program.

use http::{Response, StatusCode};

use super::answer::of;

const HTML: &str = "text/html; charset=utf-8";

/// Returns the page or file of a path.
pub(super) fn find(path: &str) -> Option<Response<Vec<u8>>> {
    let is_root = path == "/";
    is_root.then(|| of(StatusCode::OK, HTML, include_str!("page/index.html")))
}
