//! The resource that a request asks for. Its path says all of it, so that origin and client know the answer without each
//! other.

use crate::random::{mix, piece, Sum};

/// The way in which the origin marks the end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length,
    Chunked,
    /// By the end of the connection.
    Close,
    /// In chunks, and followed by a field.
    Trailers,
}

impl Framing {
    pub const ALL: [Self; 4] = [Self::Length, Self::Chunked, Self::Close, Self::Trailers];

    fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Chunked => "chunked",
            Self::Close => "close",
            Self::Trailers => "trailers",
        }
    }
}

/// An answer that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub seed: u64,
    pub size: u64,
    pub framing: Framing,
}

impl Ask {
    pub fn path(&self, route: &str) -> String {
        let Self {
            seed,
            size,
            framing,
        } = self;
        format!("/{route}/{seed:x}/{size}/{}", framing.name())
    }

    pub fn parse(path: &str) -> Option<Self> {
        let mut parts = path.split('/').skip(2);
        let seed = u64::from_str_radix(parts.next()?, 16).ok()?;
        let size = parts.next()?.parse().ok()?;
        let name = parts.next()?;
        let framing = Framing::ALL.into_iter().find(|one| one.name() == name)?;
        Some(Self {
            seed,
            size,
            framing,
        })
    }

    /// The field after the body.
    pub fn trailer(&self) -> String {
        format!("{:x}-{}", self.seed, self.size)
    }
}

/// A body of a request that is answered before it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Early {
    /// The bytes of the body.
    pub size: u64,
    /// The bytes after which the answer begins.
    pub after: u64,
}

impl Early {
    /// The path of an answer that comes so early.
    pub fn path(&self, route: &str, ask: &Ask) -> String {
        format!("{}/early/{}/{}", ask.path(route), self.size, self.after)
    }

    pub fn parse(path: &str) -> Option<Self> {
        let (_, rest) = path.split_once("/early/")?;
        let (size, after) = rest.split_once('/')?;
        Some(Self {
            size: size.parse().ok()?,
            after: after.parse().ok()?,
        })
    }

    /// The seed of the body.
    pub fn seed(ask: &Ask) -> u64 {
        mix(ask.seed)
    }
}

/// The answer of an origin to an upload: the length and the sum of what it got.
pub fn receipt(len: u64, sum: Sum) -> String {
    format!("{len} {:x}", sum.0)
}

/// Returns the answer that it must give to the body of a seed.
pub fn receipt_of(seed: u64, size: u64) -> String {
    receipt(size, Sum::NONE.add(&piece(seed, 0, size as usize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_all() {
        for framing in Framing::ALL {
            let ask = Ask {
                seed: u64::MAX,
                size: 12,
                framing,
            };
            assert_eq!(Ask::parse(&ask.path("main")), Some(ask));
        }
        let ask = Ask {
            seed: 1,
            size: 12,
            framing: Framing::Chunked,
        };
        let early = Early { size: 7, after: 3 };
        let path = early.path("main", &ask);
        assert_eq!(Ask::parse(&path), Some(ask));
        assert_eq!(Early::parse(&path), Some(early));
        assert_eq!(Early::parse(&ask.path("main")), None);
        assert_eq!(Ask::parse("/main/zz/1/length"), None);
        assert_eq!(Ask::parse("/main"), None);
    }
}
