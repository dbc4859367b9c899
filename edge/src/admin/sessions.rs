//! Browsers that have shown the token: each has a cookie that stands for it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use subtle::{Choice, ConstantTimeEq};

use crate::config::values::Secret;

/// The name of the cookie.
pub(super) const COOKIE_NAME: &str = "edge_admin";
/// The time for which a session holds.
pub(super) const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Sessions that are kept; the oldest gives way.
const KEPT: usize = 64;

/// The sessions of browsers.
#[derive(Default)]
pub(super) struct Sessions(Mutex<VecDeque<Session>>);

struct Session {
    /// 256 random bits, in hexadecimal.
    name: String,
    /// The token that was shown: with another one the session is over.
    token: Secret,
    until: Instant,
}

impl Sessions {
    /// Begins a session of somebody who knows the token; `None` when the system gives no random numbers.
    pub(super) fn begin(&self, token: &Secret) -> Option<String> {
        let mut bits = [0; 32];
        getrandom::fill(&mut bits).ok()?;
        let name: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        all.retain(|session| session.until > now && session.token == *token);
        all.push_front(Session {
            name: name.clone(),
            token: token.clone(),
            until: now + LIFETIME,
        });
        all.truncate(KEPT);
        Some(name)
    }

    /// Tells whether a session of this name holds for the token.
    pub(super) fn holds(&self, name: &str, token: &Secret) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let holding = all
            .iter()
            .filter(|session| session.until > now && session.token == *token);
        let found = holding.map(|session| session.name.as_bytes().ct_eq(name.as_bytes()));
        found.fold(Choice::from(0), |one, other| one | other).into()
    }

    /// Ends a session.
    pub(super) fn end(&self, name: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|session| session.name != name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_holds_for_its_token_until_it_ends() {
        let (sessions, token) = (Sessions::default(), Secret("a".into()));
        let one = sessions.begin(&token).unwrap();
        let other = sessions.begin(&token).unwrap();
        assert_ne!(one, other);
        assert_eq!(one.len(), 64);
        assert!(sessions.holds(&one, &token) && sessions.holds(&other, &token));
        assert!(!sessions.holds(&one, &Secret("b".into())));
        assert!(!sessions.holds("", &token) && !sessions.holds(&one[1..], &token));
        sessions.end(&one);
        assert!(!sessions.holds(&one, &token) && sessions.holds(&other, &token));
    }

    #[test]
    fn the_oldest_session_gives_way() {
        let (sessions, token) = (Sessions::default(), Secret("a".into()));
        let first = sessions.begin(&token).unwrap();
        for _ in 1..KEPT {
            sessions.begin(&token).unwrap();
        }
        assert!(sessions.holds(&first, &token));
        sessions.begin(&token).unwrap();
        assert!(!sessions.holds(&first, &token));
    }
}
