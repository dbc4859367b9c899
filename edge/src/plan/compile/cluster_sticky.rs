//! The cookie that keeps a client at its server.

use super::Compiler;
use crate::config::model::{self, SameSite};
use crate::config::values::{Part, Template, Variable};
use crate::config::At;
use crate::plan::Sticky;

impl Compiler<'_> {
    pub(super) fn sticky(&mut self, proxy: &model::Proxy) -> Option<Sticky> {
        let sticky = proxy.sticky.as_ref()?;
        let At { place, value: name } = &sticky.cookie;
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            let message = format!(
                "`{name}` is not a name of a cookie; expected letters, digits, `-` and `_`"
            );
            self.errors.at(*place, message);
        }
        let same_site = sticky.same_site.as_ref();
        if let (
            Some(At {
                place,
                value: SameSite::None,
            }),
            Some(false),
        ) = (same_site, sticky.secure)
        {
            let message = "clients take `same_site: none` with `secure` alone, and that is false";
            self.errors.at(*place, message);
        }
        let same_site = same_site.map_or(SameSite::Lax, |at| at.value);
        let secure = if same_site == SameSite::None {
            Some(true)
        } else {
            sticky.secure
        };
        let age = sticky.ttl.map_or_else(String::new, |ttl| {
            format!("; Max-Age={}", ttl.as_secs().max(1))
        });
        let site = match same_site {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        };
        Some(Sticky {
            cookie: Template::of(vec![Part::Variable(Variable::Cookie(name.clone()))]),
            name: name.clone(),
            attributes: format!("; Path=/{age}; HttpOnly; SameSite={site}"),
            secure,
            secret: sticky.secret.as_ref().map(|secret| secret.0.clone()),
        })
    }
}
