//! Automatic certificates, as a plan has them.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::model::Challenge;
use crate::config::values::HostPattern;

/// The automatic certificates of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The URL of the directory of the authority.
    pub directory: String,
    /// The mailbox to which the authority may write.
    pub email: Option<String>,
    /// The file of the certificates by which the directory is trusted; those of the system when unset.
    pub ca: Option<PathBuf>,
    /// The account at the authority.
    pub eab: Option<ExternalAccount>,
    /// The ways to prove that a host is ours, the preferred one first; never empty.
    pub challenges: Vec<Challenge>,
    /// The folder of the account, keys and certificates.
    pub storage: Option<PathBuf>,
    /// The time before its end at which a certificate is renewed.
    pub renew_before: Option<Duration>,
    /// The profile of certificates.
    pub profile: Option<String>,
    /// The hosts that have a certificate each, in the order of the file.
    pub hosts: Vec<String>,
    /// The rules for names that have one on demand, if a site has such.
    pub on_demand: Option<OnDemandRules>,
}

/// Certificates that are ordered when a client first asks for the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDemandRules {
    /// The hosts of sites whose names have one: patterns, never exact ones.
    pub hosts: Vec<HostPattern>,
    /// The URL that is asked, with `domain=` at its end for the name to follow.
    pub ask: Option<String>,
    /// The names that may have one; every name when empty, and then `ask` decides.
    pub allow: Vec<HostPattern>,
    /// The longest time that a handshake waits.
    pub wait: Duration,
    /// The largest number of certificates that are kept.
    pub max_names: usize,
}

/// Bytes of the longest name: it is the name of files too.
const LONGEST: usize = 240;

impl OnDemandRules {
    /// Tells whether a name, in its normal form, may be asked for: by its form, by the sites, and by `allow`.
    pub fn may_have(&self, name: &str) -> bool {
        is_public(name)
            && self.hosts.iter().any(|host| host.matches(name))
            && (self.allow.is_empty() || self.allow.iter().any(|allowed| allowed.matches(name)))
    }
}

/// Tells whether a name is one that an authority may certify: two labels or more, of letters, digits and hyphens (RFC 5890
/// section 2.3.1), in lower case, and the last one not of digits, as in an IP address.
fn is_public(name: &str) -> bool {
    let label = |label: &str| {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(known)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit_once('.').map(|(_, last)| last);
    name.len() <= LONGEST
        && name.split('.').all(label)
        && last.is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()))
}

/// An account at the authority.
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The identifier of its key.
    pub kid: String,
    /// The key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalAccount")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::section::Scalar;

    fn on_demand(hosts: &[&str], allow: &[&str]) -> OnDemandRules {
        let all = |of: &[&str]| {
            of.iter()
                .map(|one| HostPattern::parse(one).unwrap())
                .collect()
        };
        OnDemandRules {
            hosts: all(hosts),
            ask: None,
            allow: all(allow),
            wait: Duration::ZERO,
            max_names: 1,
        }
    }

    #[test]
    fn a_name_is_one_of_a_site_and_of_the_rule() {
        let rules = on_demand(&["*.a.test"], &[]);
        assert!(rules.may_have("x.a.test") && rules.may_have("y.x.a.test"));
        assert!(!rules.may_have("a.test") && !rules.may_have("x.b.test"));
        let rules = on_demand(&["*"], &["*.a.test", "b.test"]);
        assert!(rules.may_have("x.a.test") && rules.may_have("b.test"));
        assert!(!rules.may_have("a.test") && !rules.may_have("x.b.test"));
    }

    #[test]
    fn what_is_no_name_of_dns_has_no_certificate_and_no_file() {
        let rules = on_demand(&["*"], &[]);
        assert!(rules.may_have("xn--bcher-kva.example"));
        let long = format!("{}.test", ["a"; 130].join("."));
        for bad in [
            "",
            ".",
            "..",
            "localhost",
            "192.0.2.1",
            "[::1]",
            "a..test",
            ".a.test",
            "a.test.",
            "a/b.test",
            "../a.test",
            "-a.test",
            "a-.test",
            "a_b.test",
            "A.test",
            "a.test\0",
            "*.a.test",
            "a b.test",
            &long,
        ] {
            assert!(!rules.may_have(bad), "{bad}");
        }
    }
}
