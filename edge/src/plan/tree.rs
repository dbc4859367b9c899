//! A radix tree over the literal beginnings of patterns of paths.
//!
//! A lookup goes along the bytes of one path, and costs the same with ten patterns as with ten thousand, but for those
//! that share their literal beginning.

/// The tree. Values are numbers, put in in ascending order.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    label: Vec<u8>,
    /// By the first byte of their labels, in order.
    children: Vec<(u8, usize)>,
    lists: Lists,
}

/// The values at a node, in ascending order.
#[derive(Debug, Default)]
struct Lists {
    exact: Vec<u32>,
    prefix: Vec<u32>,
    pattern: Vec<u32>,
}

/// The kinds of patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The literal is the whole path.
    Exact,
    /// The literal is a number of whole segments, without a last slash.
    Prefix,
    /// The literal is what the path begins with, and the rest is to be tested.
    Pattern,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
        }
    }

    /// Puts a value in, which is larger than those before it.
    pub(super) fn insert(&mut self, literal: &str, kind: Kind, value: u32) {
        let node = self.node_of(literal.as_bytes());
        let lists = &mut self.nodes[node].lists;
        match kind {
            Kind::Exact => lists.exact.push(value),
            Kind::Prefix => lists.prefix.push(value),
            Kind::Pattern => lists.pattern.push(value),
        }
    }

    fn node_of(&mut self, mut rest: &[u8]) -> usize {
        let mut at = 0;
        while let Some(first) = rest.first() {
            match self.child(at, *first) {
                Err(index) => {
                    let new = self.add(rest.to_vec());
                    self.nodes[at].children.insert(index, (*first, new));
                    return new;
                }
                Ok(child) => {
                    let label = &self.nodes[child].label;
                    let common = label.iter().zip(rest).take_while(|(a, b)| a == b).count();
                    if common < label.len() {
                        self.split(child, common);
                    }
                    rest = &rest[common..];
                    at = child;
                }
            }
        }
        at
    }

    /// Leaves the first bytes of its label to a node, and gives the rest to a new child.
    fn split(&mut self, node: usize, common: usize) {
        let tail = self.nodes[node].label.split_off(common);
        let first = tail[0];
        let child = self.add(tail);
        self.nodes[child].children = std::mem::take(&mut self.nodes[node].children);
        self.nodes[child].lists = std::mem::take(&mut self.nodes[node].lists);
        self.nodes[node].children.push((first, child));
    }

    fn add(&mut self, label: Vec<u8>) -> usize {
        self.nodes.push(Node {
            label,
            ..Node::default()
        });
        self.nodes.len() - 1
    }

    fn child(&self, node: usize, first: u8) -> Result<usize, usize> {
        let children = &self.nodes[node].children;
        let index = children.binary_search_by_key(&first, |(byte, _)| *byte)?;
        Ok(children[index].1)
    }

    /// Calls `visit` with each list of values whose literal fits `path`; `true` with those whose rest is to be tested.
    pub(super) fn walk(&self, path: &str, mut visit: impl FnMut(&[u32], bool)) {
        let (mut at, mut rest) = (0, path.as_bytes());
        loop {
            let lists = &self.nodes[at].lists;
            visit(&lists.pattern, true);
            if rest.is_empty() || rest[0] == b'/' {
                visit(&lists.prefix, false);
            }
            let Some(first) = rest.first() else {
                return visit(&lists.exact, false);
            };
            let Ok(child) = self.child(at, *first) else {
                return;
            };
            let Some(after) = rest.strip_prefix(&*self.nodes[child].label) else {
                return;
            };
            (at, rest) = (child, after);
        }
    }
}
