//! Certificates on demand.

use super::Compiler;
use crate::config::model;
use crate::config::values::HostPattern;
use crate::config::At;
use crate::plan::acme::OnDemandRules;

impl Compiler<'_> {
    /// Returns the rules of names that have a certificate on demand, without the hosts of sites. Without a rule anybody could
    /// have certificates ordered for any name that leads here: that is an error.
    pub(super) fn on_demand(&mut self, rules: &model::OnDemand) -> Option<OnDemandRules> {
        if rules.ask.is_none() && rules.allow.is_empty() {
            let message = "`on_demand` needs a rule, or anybody could have certificates ordered for any name: set `ask`, \
                           `allow`, or both";
            self.errors.at(rules.place, message);
            return None;
        }
        for At { place, value } in &rules.allow {
            if *value == HostPattern::Any {
                let message = "`*` would allow certificates for every name; write `*.NAME`, or have `ask` decide";
                self.errors.at(*place, message);
            }
        }
        let ask = rules.ask.as_ref().map(|url| {
            let joint = if url.0.contains('?') { '&' } else { '?' };
            format!("{}{joint}domain=", url.0)
        });
        let allow = rules.allow.iter().map(|allowed| allowed.value.clone());
        Some(OnDemandRules {
            hosts: Vec::new(),
            ask,
            allow: allow.collect(),
            wait: rules.wait,
            max_names: rules.max_names.0 as usize,
        })
    }
}
