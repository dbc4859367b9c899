//! True if files have changed. It is asked for once a second, and works on every file system.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{Disk, Watched, World};

/// The files of a configuration, and their state when it was read.
#[derive(Debug, Default)]
pub(super) struct Watch {
    watched: Watched,
    /// The state that was read.
    read: State,
    /// The state at the last look.
    last: State,
}

/// Marks that tell one state of files from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    files: BTreeMap<PathBuf, Option<Stamp>>,
    /// The files that each pattern matches.
    matches: Vec<Vec<PathBuf>>,
}

/// When a file was written, and its state was changed; how long it is, and which one.
type Stamp = [i64; 6];

impl State {
    pub(super) fn of(watched: &Watched) -> Self {
        let files = watched.files.iter();
        let globs = watched.globs.iter();
        Self {
            files: files.map(|file| (file.clone(), stamp(file))).collect(),
            matches: globs
                .map(|glob| Disk.glob(glob).unwrap_or_default())
                .collect(),
        }
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let state = std::fs::metadata(file).ok()?;
    let (written, changed) = (
        [state.mtime(), state.mtime_nsec()],
        [state.ctime(), state.ctime_nsec()],
    );
    // Compared and never counted with: what wraps around differs all the same.
    let which = [state.size() as i64, state.ino() as i64];
    Some([
        written[0], written[1], changed[0], changed[1], which[0], which[1],
    ])
}

impl Watch {
    /// Watches files that were read in this state.
    pub(super) fn new(watched: Watched) -> Self {
        let read = State::of(&watched);
        Self {
            last: read.clone(),
            read,
            watched,
        }
    }

    /// Returns the state of the files now.
    pub(super) fn state(&self) -> State {
        State::of(&self.watched)
    }

    /// Watches files that were read after `before`, the state of those that were watched until then.
    pub(super) fn next(&mut self, watched: Watched, before: &State) {
        let mut now = State::of(&watched);
        // What has changed while it was read is found at the next look.
        for (file, stamp) in &mut now.files {
            if let Some(earlier) = before.files.get(file) {
                *stamp = *earlier;
            }
        }
        *self = Self {
            last: now.clone(),
            read: now,
            watched,
        };
    }

    /// Tells whether files have changed, and have stood still since the last look: nobody is writing them.
    pub(super) fn look(&mut self) -> bool {
        let now = self.state();
        let still = now == self.last;
        self.last = now;
        still && self.last != self.read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(dir: &Path) -> Watch {
        Watch::new(Watched {
            files: vec![dir.join("a"), dir.join("b")],
            globs: vec![dir.join("*.yaml").to_string_lossy().into_owned()],
        })
    }

    #[test]
    fn a_change_counts_when_it_stands_still() {
        let dir = tempfile::TempDir::new().unwrap();
        let a = dir.path().join("a");
        std::fs::write(&a, "1").unwrap();
        let mut watch = watch(dir.path());
        assert!(!watch.look());
        std::fs::write(&a, "22").unwrap();
        assert!(!watch.look());
        std::fs::write(&a, "333").unwrap();
        assert!(!watch.look());
        assert!(watch.look());
        let before = watch.state();
        watch.next(watch.watched.clone(), &before);
        assert!(!watch.look() && !watch.look());
    }

    #[test]
    fn files_that_come_and_go_are_changes() {
        let dir = tempfile::TempDir::new().unwrap();
        for (name, comes) in [("b", true), ("c.yaml", true), ("b", false)] {
            let file = dir.path().join(name);
            let mut watch = watch(dir.path());
            if comes {
                std::fs::write(&file, "1").unwrap();
            } else {
                std::fs::remove_file(&file).unwrap();
            }
            assert!(!watch.look(), "{name}");
            assert!(watch.look(), "{name}");
        }
    }

    #[test]
    fn a_change_while_files_are_read_is_found() {
        let dir = tempfile::TempDir::new().unwrap();
        let a = dir.path().join("a");
        let mut watch = watch(dir.path());
        let before = watch.state();
        std::fs::write(&a, "1").unwrap();
        watch.next(watch.watched.clone(), &before);
        assert!(!watch.look());
        assert!(watch.look());
    }
}
