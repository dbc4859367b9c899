//! Files that keys name and whose content is a part of the configuration.

use std::path::{Path, PathBuf};

use super::files::{beside, MAX_FILE};
use super::model::{BasicAuth, ErrorPage, Root};
use super::place::{shown, Errors, Sources};
use super::values::ReadFile;
use super::World;

/// Reads them all, and returns their paths, those of files that cannot be read among them.
pub(super) fn read(
    root: &mut Root,
    sources: &Sources,
    world: &dyn World,
    errors: &mut Errors,
) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for file in named(root) {
        let path = sources.path(file.place).map_or_else(
            || file.path().to_owned(),
            |from| beside(from, &file.path().to_string_lossy()),
        );
        match text(&path, world) {
            Ok(text) => file.fill(text),
            Err(why) => {
                let name = shown(&file.path().to_string_lossy());
                errors.at(file.place, format!("cannot read the file {name}: {why}"));
            }
        }
        paths.push(path);
    }
    paths
}

fn named(root: &mut Root) -> Vec<&mut ReadFile> {
    let mut pages: Vec<&mut ErrorPage> = root.errors.iter_mut().collect();
    let mut basics: Vec<&mut BasicAuth> = Vec::new();
    for site in &mut root.sites {
        pages.extend(&mut site.errors);
        basics.extend(&mut site.basic_auth);
        for route in &mut site.routes {
            pages.extend(&mut route.errors);
            basics.extend(&mut route.basic_auth);
        }
    }
    let pages = pages.into_iter().filter_map(|page| page.file.as_mut());
    let users = basics
        .into_iter()
        .filter_map(|basic| basic.users_file.as_mut());
    pages.chain(users).collect()
}

fn text(path: &Path, world: &dyn World) -> Result<String, String> {
    let bytes = world.read(path, MAX_FILE).map_err(|e| e.to_string())?;
    if bytes.len() > MAX_FILE {
        return Err(format!("it is larger than {} MiB", MAX_FILE >> 20));
    }
    String::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_owned())
}
