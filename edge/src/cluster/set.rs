//! Small sets of servers.

/// Indices of servers. Those below 64 take no memory of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    first: u64,
    more: Vec<usize>,
}

impl Set {
    /// Tells whether an index is in it.
    #[inline]
    pub(super) fn has(&self, index: usize) -> bool {
        if index < 64 {
            self.first >> index & 1 == 1
        } else {
            self.more.contains(&index)
        }
    }

    /// Puts an index in.
    pub(super) fn insert(&mut self, index: usize) {
        if index < 64 {
            self.first |= 1 << index;
        } else if !self.more.contains(&index) {
            self.more.push(index);
        }
    }

    /// Returns the number of indices.
    pub(super) fn len(&self) -> usize {
        self.first.count_ones() as usize + self.more.len()
    }

    /// Tells whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.first == 0 && self.more.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_what_was_put_in() {
        let mut set = Set::default();
        assert!(set.is_empty());
        for index in [0, 63, 64, 1000, 64] {
            set.insert(index);
        }
        let all: Vec<_> = (0..2000).filter(|index| set.has(*index)).collect();
        assert_eq!(all, [0, 63, 64, 1000]);
        assert_eq!(set.len(), 4);
        assert!(!set.is_empty());
    }
}
