//! Users, and pages of other origins.

use super::Compiler;
use crate::config::model;
use crate::config::section::Value;
use crate::config::values::WebOrigin;
use crate::plan::cors::Cors;
use crate::plan::realm::Realm;

impl Compiler<'_> {
    /// Returns the index of the users.
    pub(super) fn basic_auth(&mut self, basic: &model::BasicAuth) -> Option<usize> {
        if !basic.enabled {
            return None;
        }
        let users: Vec<_> = basic.users.0.iter().collect();
        if users.is_empty() {
            let message = "nobody would be let in: `users` is empty";
            self.errors.at(basic.place, message);
        }
        let realm = basic
            .realm
            .as_ref()
            .map_or("Restricted", |realm| &realm.value);
        let plain = |c: char| c == ' ' || (c.is_ascii_graphic() && c != '"' && c != '\\');
        if let Some(at) = basic
            .realm
            .as_ref()
            .filter(|at| !at.value.chars().all(plain))
        {
            let message = "a realm is of visible ASCII characters but `\"` and `\\`";
            self.errors.at(at.place, message);
        }
        let key = basic.print().to_yaml();
        if let Some(known) = self.realms.iter().position(|realm| realm.key == key) {
            return Some(known);
        }
        self.realms.push(Realm {
            key,
            challenge: format!("Basic realm=\"{realm}\", charset=\"UTF-8\""),
            users: users
                .into_iter()
                .map(|(name, hash)| (name.0.clone(), hash.clone()))
                .collect(),
        });
        Some(self.realms.len() - 1)
    }

    pub(super) fn cors(&mut self, cors: &model::Cors) -> Cors {
        if cors.credentials && cors.origins.contains(&WebOrigin::Any) {
            let message = "`credentials` with the origin `*` would let every page act as its visitor; name the origins";
            self.errors.at(cors.place, message);
        }
        let list = |names: Vec<&str>| (!names.is_empty()).then(|| names.join(", "));
        Cors {
            origins: cors.origins.clone(),
            methods: list(match &cors.methods[..] {
                [] => vec!["GET", "HEAD", "POST"],
                methods => methods.iter().map(|method| method.as_str()).collect(),
            }),
            headers: list(cors.headers.iter().map(|name| name.as_str()).collect()),
            expose: list(cors.expose.iter().map(|name| name.as_str()).collect()),
            credentials: cors.credentials,
            max_age: cors.max_age.map(|age| age.as_secs()),
        }
    }
}
