//! A YAML document as a tree whose nodes know their places.
//!
//! Bounded: `MAX_DEPTH` levels, `MAX_COPIED` nodes made by aliases. Duplicate keys, tags, keys that are no text, and
//! several documents in one file are errors.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput};

use super::place::{shown, Errors, Place};
use super::secrets::STARS;

/// Levels of lists and maps in each other.
const MAX_DEPTH: usize = 32;
/// Nodes that aliases may add to a file.
const MAX_COPIED: usize = 100_000;

/// A node and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// The place of its first character.
    pub place: Place,
    /// Its kind and content.
    pub kind: Kind,
}

/// The kinds of nodes.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Nothing stands there, or `null`.
    Null,
    /// A scalar that an error is told of already, as it was written.
    Failed(String),
    /// A scalar of any type: the reader of a value decides what it makes of the text.
    Scalar {
        /// The text, without quotes.
        text: String,
        /// The text as it was written, where that names values from elsewhere. Errors must not show what it became.
        written: Option<String>,
    },
    /// A list.
    List(Vec<Node>),
    /// A map, with the place of each key.
    Map(Vec<(String, Place, Node)>),
}

impl Node {
    /// Adds the scalars that are from elsewhere, by their places.
    pub(super) fn elsewhere<'a>(&'a self, found: &mut HashMap<Place, &'a str>) {
        match &self.kind {
            Kind::Scalar {
                text,
                written: Some(_),
            } => {
                found.insert(self.place, text);
            }
            Kind::Null | Kind::Failed(_) | Kind::Scalar { .. } => {}
            Kind::List(items) => items.iter().for_each(|item| item.elsewhere(found)),
            Kind::Map(pairs) => pairs
                .iter()
                .for_each(|(_, _, value)| value.elsewhere(found)),
        }
    }

    /// Returns it with values that errors do not show.
    pub(super) fn covered(&self) -> Self {
        let mut covered = self.clone();
        covered.cover();
        covered
    }

    fn cover(&mut self) {
        match &mut self.kind {
            Kind::Null | Kind::Failed(_) => {}
            Kind::Scalar { written, .. } => {
                written.get_or_insert_with(|| STARS.to_owned());
            }
            Kind::List(items) => items.iter_mut().for_each(Self::cover),
            Kind::Map(pairs) => pairs.iter_mut().for_each(|(_, _, value)| value.cover()),
        }
    }

    /// Names its kind, and shows it when it is short.
    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            Kind::Null | Kind::Failed(_) => "nothing".into(),
            Kind::Scalar {
                written: Some(written),
                ..
            } if written == STARS => "what stands here".into(),
            Kind::Scalar {
                written: Some(_), ..
            } => "a value from elsewhere".into(),
            Kind::Scalar { text, .. } => shown(text),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a map".into(),
        }
    }
}

/// Reads a document; `None` when it is no YAML, or holds nothing.
pub(crate) fn read(text: &str, file: u32, errors: &mut Errors) -> Option<Node> {
    let mut composer = Composer {
        text,
        parser: Parser::new_from_str(text),
        file,
        errors,
        anchors: HashMap::new(),
        copied: 0,
    };
    match composer.document() {
        Ok(node) => node,
        Err((place, message)) => {
            errors.at(place, message);
            None
        }
    }
}

type Failure = (Place, String);

struct Composer<'a> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    file: u32,
    errors: &'a mut Errors,
    /// Nodes with an anchor, each with the number of nodes in it.
    anchors: HashMap<usize, (Node, usize)>,
    copied: usize,
}

impl<'a> Composer<'a> {
    fn document(&mut self) -> Result<Option<Node>, Failure> {
        let mut root = None;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if root.is_some() => {
                    return Err((place, "a second document begins; a file holds one".into()));
                }
                Event::DocumentStart(_) => {}
                event => root = Some(self.node(event, place, 0)?.0),
            }
        }
    }

    /// Makes a node of `event` and those that belong to it, and counts the nodes.
    fn node(
        &mut self,
        event: Event<'a>,
        place: Place,
        depth: usize,
    ) -> Result<(Node, usize), Failure> {
        if depth > MAX_DEPTH {
            return Err((
                place,
                format!("lists and maps stand in each other more than {MAX_DEPTH} levels deep"),
            ));
        }
        let (anchor, tag, kind, size) = match event {
            Event::Alias(id) => return self.alias(id, place),
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, tag, scalar(text.into_owned(), style), 1)
            }
            Event::SequenceStart(anchor, tag) => {
                let (items, size) = self.list(depth)?;
                (anchor, tag, Kind::List(items), size)
            }
            Event::MappingStart(anchor, tag) => {
                let (pairs, size) = self.map(depth)?;
                (anchor, tag, Kind::Map(pairs), size)
            }
            _ => return Err((place, "this is no value".into())),
        };
        if let Some(tag) = tag {
            let tag = shown(&tag.to_string());
            self.errors.at(
                place,
                format!("the tag {tag} means nothing here; leave it out"),
            );
        }
        let node = Node { place, kind };
        if anchor > 0 {
            self.copied += size;
            self.check_copied(place)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok((node, size))
    }

    fn list(&mut self, depth: usize) -> Result<(Vec<Node>, usize), Failure> {
        let (mut items, mut size) = (Vec::new(), 1);
        loop {
            let (event, place) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok((items, size));
            }
            let (item, n) = self.node(event, place, depth + 1)?;
            items.push(item);
            size += n;
        }
    }

    #[allow(clippy::type_complexity)]
    fn map(&mut self, depth: usize) -> Result<(Vec<(String, Place, Node)>, usize), Failure> {
        let (mut pairs, mut size, mut keys) = (Vec::new(), 1, HashSet::new());
        loop {
            let (event, place) = self.next()?;
            if event == Event::MappingEnd {
                return Ok((pairs, size));
            }
            let key = match self.node(event, place, depth + 1)?.0.kind {
                Kind::Scalar { text, .. } => text,
                _ => return Err((place, "a key must be a text".into())),
            };
            let (event, at) = self.next()?;
            let (value, n) = self.node(event, at, depth + 1)?;
            size += n;
            if keys.insert(key.clone()) {
                pairs.push((key, place, value));
            } else {
                self.errors.hide(&value);
                self.errors
                    .at(place, format!("the key {} stands here twice", shown(&key)));
            }
        }
    }

    fn alias(&mut self, id: usize, place: Place) -> Result<(Node, usize), Failure> {
        let Some((_, size)) = self.anchors.get(&id) else {
            return Err((place, "an alias of what contains it".into()));
        };
        self.copied += size;
        self.check_copied(place)?;
        Ok(self.anchors[&id].clone())
    }

    fn check_copied(&self, place: Place) -> Result<(), Failure> {
        if self.copied > MAX_COPIED {
            return Err((place, format!("aliases make more than {MAX_COPIED} values")));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<(Event<'a>, Place), Failure> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.place(span.start))),
            Some(Err(e)) => Err((
                self.place(*e.marker()),
                format!("no valid YAML: {}{}", e.info(), self.hint(*e.marker())),
            )),
            None => Ok((Event::StreamEnd, self.place(Marker::default()))),
        }
    }

    /// Tells of a text that lacks its quotes, as far as the place of an error tells.
    fn hint(&self, marker: Marker) -> String {
        let line = self.text.lines().nth(marker.line().saturating_sub(1));
        let line: Vec<char> = line.unwrap_or("").chars().collect();
        let (before, rest) = line.split_at(marker.col().min(line.len()));
        let quote = match (before.last(), rest) {
            (_, [first @ ('*' | '&' | '%' | '@' | '`'), ..]) => format!("begins with `{first}`"),
            (Some(']'), [_, ..]) => "begins with `[`".to_owned(),
            (Some('}'), [_, ..]) => "begins with `{`".to_owned(),
            (_, [':', ' ', ..]) => "has `: ` in it".to_owned(),
            _ => return String::new(),
        };
        format!("; put a text that {quote} in quotes")
    }

    fn place(&self, marker: Marker) -> Place {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place {
            file: self.file,
            line: number(marker.line()).max(1),
            column: number(marker.col()).saturating_add(1),
        }
    }
}

fn scalar(text: String, style: ScalarStyle) -> Kind {
    if style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
        return Kind::Null;
    }
    Kind::Scalar {
        text,
        written: None,
    }
}
