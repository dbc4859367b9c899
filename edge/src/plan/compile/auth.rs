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
        if let Some(known) = self.realms_by_place.get(&basic.place) {
            return Some(*known);
        }
        let users = self.users(basic);
        if users.is_empty() && basic.users_file.is_none() {
            let message = "nobody would be let in: there are neither `users` nor a `users_file`";
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
        let mut key = basic.print().to_yaml();
        for (name, hash) in &users[basic.users.0.len()..] {
            key.push_str(&format!("{name}:{}\n", hash.as_str()));
        }
        let known = self.realms.iter().position(|realm| realm.key == key);
        let index = known.unwrap_or(self.realms.len());
        self.realms_by_place.insert(basic.place, index);
        if known.is_some() {
            return known;
        }
        self.realms.push(Realm {
            key,
            challenge: format!("Basic realm=\"{realm}\", charset=\"UTF-8\""),
            users,
        });
        Some(index)
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
