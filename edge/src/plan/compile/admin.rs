//! The admin interface.

use super::Compiler;
use crate::config::model;
use crate::config::values::{Address, HostPattern, Secret};
use crate::config::{At, Place};
use crate::plan::Admin;

/// The fewest characters of a token.
const TOKEN: usize = 16;

impl Compiler<'_> {
    pub(super) fn admin(&mut self, root: &model::Root) -> Option<Admin> {
        let admin = root.admin.as_ref()?;
        let At { place, value } = &admin.address;
        self.admin_address(value, *place, admin.token.is_some());
        let mut listens = root.listen.iter().map(|listen| &listen.address);
        if let Some(other) = listens.find(|other| other.value == *value) {
            let other = self.sources.name(other.place);
            let message = format!("`{value}` is listened on already, by {other}");
            self.errors.at(*place, message);
        } else {
            self.admin_overlaps(root, &admin.address);
        }
        if let Some(At { place, value }) = &admin.token {
            self.admin_token(value, *place);
        }
        for At { place, value } in &admin.allow_hosts {
            if *value == HostPattern::Any {
                let message = "`*` would allow every host, and any page on the web could ask by one of its own; name the hosts";
                self.errors.at(*place, message);
            }
        }
        Some(Admin {
            address: value.clone(),
            token: admin.token.as_ref().map(|token| token.value.clone()),
            allow_hosts: admin
                .allow_hosts
                .iter()
                .map(|host| host.value.clone())
                .collect(),
        })
    }

    /// Reports the one of two addresses that could not be bound beside the other.
    fn admin_overlaps(&mut self, root: &model::Root, admin: &At<Address>) {
        for other in root.listen.iter().map(|listen| &listen.address) {
            if other.value.includes(&admin.value) {
                self.errors
                    .at(admin.place, self.is_part(&admin.value, other));
            } else if admin.value.includes(&other.value) {
                self.errors
                    .at(other.place, self.is_part(&other.value, admin));
            }
        }
    }

    fn admin_address(&mut self, address: &Address, place: Place, has_token: bool) {
        let message = match address {
            Address::Name(..) => {
                format!("`{address}` is a name; a listener has an IP address")
            }
            Address::Ip(ip) if !ip.ip().to_canonical().is_loopback() && !has_token => {
                format!(
                    "other machines reach `{address}`: set a `token`, or listen at `127.0.0.1:{}`",
                    ip.port()
                )
            }
            Address::Ip(_) | Address::Unix(_) => return,
        };
        self.errors.at(place, message);
    }

    fn admin_token(&mut self, Secret(token): &Secret, place: Place) {
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            let message =
                "the `token` holds other characters than letters, digits and signs of ASCII";
            self.errors.at(place, message);
        } else if token.len() < TOKEN {
            let message = format!(
                "the `token` has {} characters; expected {TOKEN} or more, as `openssl rand -hex 16` makes them",
                token.len()
            );
            self.errors.at(place, message);
        }
    }
}
