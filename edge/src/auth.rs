//! Passwords, which take long to check: that is done off the workers, by few threads, and what was found is remembered.
//!
//! Remembered is a keyed hash of user, stored hash and password, never the password: 128 bits, by two hashes whose keys the
//! system has chosen and nobody sees. Each worker has a table of its own, and one that it has not found something in asks
//! that of all workers. A file with other users has other keys, so nothing of the old ones counts.
//!
//! Checks wait in line: a client has two there at most, and all together [`WAITING`].

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::sync::Semaphore;

use crate::config::values::PasswordHash;
use crate::plan::realm::Realm;

/// Pairs that are remembered of each kind.
const REMEMBERED: usize = 4096;
/// Checks that are under way or wait, over all clients.
const WAITING: usize = 64;
/// The same of one client.
const OF_A_CLIENT: usize = 2;

/// The users of a realm.
pub(crate) struct Users {
    /// That of its realm.
    pub(crate) key: String,
    hashes: HashMap<String, PasswordHash>,
    /// Checked for a name that nobody has, so that it takes as long.
    other: Option<PasswordHash>,
    secrets: [RandomState; 2],
    remembered: Mutex<Remembered>,
}

/// Pairs of which it is known whether they are right.
#[derive(Default)]
struct Remembered {
    right: HashSet<u128>,
    wrong: HashSet<u128>,
}

thread_local! {
    static OWN: RefCell<Remembered> = RefCell::default();
}

/// The name and the password of a request.
pub(crate) struct Pair {
    user: String,
    password: Vec<u8>,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PasswordCheck {
    /// The password is that of the user.
    Right,
    /// It is not, or there is no such user.
    Wrong,
    /// Too many checks are under way.
    Busy,
}

impl Pair {
    /// Reads the value of Authorization; `None` when it has no name and password.
    pub(crate) fn of(value: &[u8]) -> Option<Self> {
        use base64::engine::general_purpose::STANDARD;
        use base64::Engine;
        let (scheme, coded) = value.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let pair = STANDARD.decode(coded.trim_ascii()).ok()?;
        let colon = pair.iter().position(|b| *b == b':')?;
        Some(Self {
            user: String::from_utf8(pair[..colon].to_vec()).ok()?,
            password: pair[colon + 1..].to_vec(),
        })
    }
}

impl Remembered {
    fn find(&self, tag: u128) -> Option<bool> {
        if self.right.contains(&tag) {
            return Some(true);
        }
        self.wrong.contains(&tag).then_some(false)
    }

    fn insert(&mut self, tag: u128, right: bool) {
        let set = if right {
            &mut self.right
        } else {
            &mut self.wrong
        };
        if set.len() >= REMEMBERED {
            set.clear();
        }
        set.insert(tag);
    }
}

impl Users {
    /// Makes those of a realm.
    pub(crate) fn of(realm: &Realm) -> Self {
        Self {
            key: realm.key.clone(),
            hashes: realm.users.iter().cloned().collect(),
            other: realm.users.first().map(|(_, hash)| hash.clone()),
            secrets: [RandomState::new(), RandomState::new()],
            remembered: Mutex::default(),
        }
    }

    /// Tells whether a pair is right, if that is known: without waiting.
    pub(crate) fn known(&self, pair: &Pair) -> Option<bool> {
        let tag = self.tag(pair);
        let own = OWN.with_borrow(|own| own.find(tag));
        own.or_else(|| {
            let shared = self
                .remembered
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let found = shared.find(tag)?;
            OWN.with_borrow_mut(|own| own.insert(tag, found));
            Some(found)
        })
    }

    /// Checks a pair of a client, and remembers what was found.
    ///
    /// # Cancel safety
    /// A check that has begun goes on, and what it finds is lost.
    pub(crate) async fn check(&self, pair: Pair, client: Option<IpAddr>) -> PasswordCheck {
        let Some(place) = CheckPermit::of(client) else {
            return PasswordCheck::Busy;
        };
        let Ok(permit) = threads().acquire().await else {
            return PasswordCheck::Busy;
        };
        let tag = self.tag(&pair);
        let known = self.hashes.get(&pair.user);
        let Some(hash) = known.or(self.other.as_ref()).cloned() else {
            return PasswordCheck::Wrong;
        };
        let exists = known.is_some();
        let checked = tokio::task::spawn_blocking(move || {
            // They stay until it is done, also for a client that has gone: else it could have any number under way.
            let _held = (place, permit);
            hash.verify(&pair.password)
        });
        let right = exists && checked.await.unwrap_or(false);
        let mut shared = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shared.insert(tag, right);
        if right {
            PasswordCheck::Right
        } else {
            PasswordCheck::Wrong
        }
    }

    fn tag(&self, pair: &Pair) -> u128 {
        let hash = self.hashes.get(&pair.user).map_or("", PasswordHash::as_str);
        let [one, other] = self.secrets.each_ref().map(|secret| {
            let mut hasher = secret.build_hasher();
            for part in [pair.user.as_bytes(), hash.as_bytes(), &pair.password] {
                // Parts that are longer or shorter are not taken for others.
                hasher.write_usize(part.len());
                hasher.write(part);
            }
            hasher.finish()
        });
        u128::from(one) << 64 | u128::from(other)
    }
}

/// The threads that check: half of the cores, so that requests keep the others.
fn threads() -> &'static Semaphore {
    static THREADS: OnceLock<Semaphore> = OnceLock::new();
    THREADS.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Semaphore::new((cores / 2).max(1))
    })
}

/// The checks of each client that are under way or wait.
static CLIENTS: Mutex<Option<HashMap<Option<IpAddr>, usize>>> = Mutex::new(None);

/// A place in the line.
struct CheckPermit(Option<IpAddr>);

impl CheckPermit {
    /// Takes one; `None` when there is none left.
    fn of(client: Option<IpAddr>) -> Option<Self> {
        let client = client.map(crate::limits::client_of);
        let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = clients.get_or_insert_default();
        if clients.values().sum::<usize>() >= WAITING {
            return None;
        }
        let own = clients.entry(client).or_default();
        if *own >= OF_A_CLIENT {
            return None;
        }
        *own += 1;
        Some(Self(client))
    }
}

impl Drop for CheckPermit {
    fn drop(&mut self) {
        let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = clients.get_or_insert_default();
        if let Some(own) = clients.get_mut(&self.0) {
            *own -= 1;
            if *own == 0 {
                clients.remove(&self.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::section::Scalar;

    fn pair(text: &str) -> Option<Pair> {
        use base64::Engine;
        let coded = base64::engine::general_purpose::STANDARD.encode(text);
        Pair::of(format!("bAsic  {coded}").as_bytes())
    }

    #[test]
    fn names_and_passwords_are_read() {
        let read = pair("a:b:c").unwrap();
        assert_eq!((&*read.user, &*read.password), ("a", &b"b:c"[..]));
        assert!(pair("abc").is_none());
        for value in ["", "Basic", "Basic !", "Bearer YTpi"] {
            assert!(Pair::of(value.as_bytes()).is_none(), "{value}");
        }
    }

    #[tokio::test]
    async fn both_kinds_of_hashes_are_checked_and_remembered() {
        use argon2::password_hash::PasswordHasher;
        let cheap = argon2::Params::new(8, 1, 1, None).unwrap();
        let argon = argon2::Argon2::new(Default::default(), Default::default(), cheap);
        let argon = argon
            .hash_password_with_salt(b"pass two", b"salt salt")
            .unwrap();
        let bcrypt = bcrypt::hash("pass one", 4).unwrap();
        let parse = |text: &str| PasswordHash::parse(text).unwrap();
        let users = Users::of(&Realm {
            key: String::new(),
            challenge: String::new(),
            users: vec![
                ("one".into(), parse(&bcrypt)),
                ("two".into(), parse(&argon.to_string())),
            ],
        });
        for (text, right) in [
            ("one:pass one", true),
            ("two:pass two", true),
            ("one:pass two", false),
            ("one:", false),
            ("three:pass one", false),
        ] {
            let pair = || pair(text).unwrap();
            assert_eq!(users.known(&pair()), None, "{text}");
            let found = users.check(pair(), None).await;
            assert_eq!(found == PasswordCheck::Right, right, "{text}");
            assert_eq!(users.known(&pair()), Some(right), "{text}");
        }
    }

    #[test]
    fn a_client_has_few_places_and_leaves_them() {
        let client = Some("192.0.2.77".parse().unwrap());
        let (one, two) = (CheckPermit::of(client), CheckPermit::of(client));
        assert!(one.is_some() && two.is_some());
        assert!(CheckPermit::of(client).is_none());
        drop(one);
        assert!(CheckPermit::of(client).is_some());
    }
}
