//! The dashboard: files that are part of the program.

use http::{Response, StatusCode};

use super::answer::of;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// A file: its path, its type, what stands in it.
type File = (&'static str, &'static str, &'static str);

macro_rules! file {
    ($name:literal, $kind:expr) => {
        (
            concat!("/assets/", $name),
            $kind,
            include_str!(concat!("page/", $name)),
        )
    };
}

/// The parts that a page is made of. It tells nothing of the proxy, so everybody may see it.
const ASSETS: &[File] = &[
    file!("app.js", SCRIPT),
    file!("changes.js", SCRIPT),
    file!("charts.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("figures.js", SCRIPT),
    file!("fleet.js", SCRIPT),
    file!("icon.svg", PICTURE),
    file!("login.js", SCRIPT),
    file!("style.css", STYLE),
    file!("theme.js", SCRIPT),
    file!("traffic.js", SCRIPT),
];

/// Tells whether a path is one of a file that every page is made of.
pub(super) fn is_asset(path: &str) -> bool {
    ASSETS.iter().any(|(known, ..)| *known == path)
}

/// Returns the page or file of a path.
pub(super) fn find(path: &str) -> Option<Response<Vec<u8>>> {
    if path == "/" {
        return Some(of(StatusCode::OK, HTML, include_str!("page/index.html")));
    }
    let (_, kind, text) = ASSETS.iter().find(|(known, ..)| *known == path)?;
    Some(of(StatusCode::OK, kind, *text))
}

/// Returns the page that asks for the token.
pub(super) fn login() -> Response<Vec<u8>> {
    of(
        StatusCode::UNAUTHORIZED,
        HTML,
        include_str!("page/login.html"),
    )
}
