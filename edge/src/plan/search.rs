//! Searches with regular expressions, each worker with memory of its own.

use regex_automata::meta::{self, Cache};
use regex_automata::{Input, Span};

use crate::config::values::Regex;

/// A regular expression of a plan.
#[derive(Debug)]
pub(super) struct Search {
    regex: meta::Regex,
    /// Which memory of [`Scratch`] is its.
    id: usize,
}

/// Numbers the searches of a plan.
#[derive(Debug, Default)]
pub(super) struct Searches {
    pub(super) count: usize,
}

impl Searches {
    pub(super) fn add(&mut self, regex: &Regex) -> Search {
        self.count += 1;
        Search {
            regex: regex.compiled().clone(),
            id: self.count - 1,
        }
    }
}

/// The memory that searches need: one for each worker. It serves one plan after another.
#[derive(Debug, Default)]
pub struct Scratch {
    plan: u64,
    caches: Vec<Option<Box<Cache>>>,
}

impl Scratch {
    /// Forgets what belongs to another plan.
    pub(super) fn prepare(&mut self, plan: u64, searches: usize) {
        if self.plan != plan {
            self.plan = plan;
            self.caches.clear();
            self.caches.resize_with(searches, || None);
        }
    }

    fn of(&mut self, search: &Search) -> &mut Cache {
        self.caches[search.id].get_or_insert_with(|| Box::new(search.regex.create_cache()))
    }
}

/// The expressions of a route's paths, one of which its requests match.
#[derive(Debug, Default)]
pub struct PathGroups(pub(super) Vec<Search>);

impl PathGroups {
    /// Returns the number of groups that each of them has, the whole match among them.
    pub(super) fn count(&self) -> usize {
        let counts = self.0.iter().map(Search::group_count);
        counts.min().unwrap_or(0)
    }

    /// Returns what the groups of the first one that matches the path matched.
    pub(super) fn of<'t>(&self, path: &'t str, scratch: &mut Scratch) -> Vec<&'t str> {
        let mut searches = self.0.iter();
        let found = searches.find_map(|search| search.groups(path, scratch));
        found.unwrap_or_default()
    }
}

impl Search {
    /// Tells whether it matches the whole text.
    pub(super) fn matches(&self, text: &[u8], scratch: &mut Scratch) -> bool {
        let input = Input::new(text).earliest(true);
        self.regex
            .search_half_with(scratch.of(self), &input)
            .is_some()
    }

    /// Returns what the groups of a match of the whole text matched, the whole first; nothing for a group without part in it.
    pub(super) fn groups<'t>(&self, text: &'t str, scratch: &mut Scratch) -> Option<Vec<&'t str>> {
        let mut captures = self.regex.create_captures();
        self.regex
            .search_captures_with(scratch.of(self), &Input::new(text), &mut captures);
        let group = |span: Option<Span>| span.map_or("", |span| &text[span.range()]);
        captures
            .is_match()
            .then(|| captures.iter().map(group).collect())
    }

    /// Returns the number of groups, the whole match among them.
    pub(super) fn group_count(&self) -> usize {
        self.regex.captures_len()
    }
}
