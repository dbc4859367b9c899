//! Files that keys name and whose content is a part of the configuration.

use std::path::{Path, PathBuf};

use super::files::MAX_FILE;
use super::model::{BasicAuth, ErrorPage, Proxy, Root, TlsOptions};
use super::place::{shown, Errors};
use super::values::{FilePath, ReadFile};
use super::World;

/// Reads them all, and returns their paths, those of files that cannot be read among them.
pub(super) fn read(root: &mut Root, world: &dyn World, errors: &mut Errors) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for file in named(root) {
        match text(file.path(), world) {
            Ok(text) => file.fill(text),
            Err(why) => unreadable(file.path(), &why, errors),
        }
        paths.push(file.path().to_path_buf());
    }
    paths
}

/// Tells of files of certificates and keys that cannot be read.
pub(super) fn check(root: &Root, world: &dyn World, errors: &mut Errors) {
    for file in certificates(root) {
        if let Err(e) = world.read(file, 1) {
            unreadable(file, &e.to_string(), errors);
        }
    }
}

fn unreadable(file: &FilePath, why: &str, errors: &mut Errors) {
    let name = shown(&file.shown().to_string_lossy());
    errors.at(file.place, format!("cannot read the file {name}: {why}"));
}

fn certificates(root: &Root) -> Vec<&FilePath> {
    let mut files = Vec::new();
    let mut options: Vec<&TlsOptions> = root.tls_options.iter().collect();
    files.extend(root.acme.iter().filter_map(|acme| acme.ca.as_ref()));
    for site in &root.sites {
        options.extend(&site.tls_options);
        for pair in site.tls.files() {
            files.extend([&pair.cert, &pair.key].into_iter().chain(&pair.ocsp));
        }
    }
    for auth in options.iter().flat_map(|options| &options.client_auth) {
        files.extend(auth.ca.iter().chain(&auth.crl));
    }
    let tls = proxies(root)
        .into_iter()
        .filter_map(|proxy| proxy.tls.as_ref());
    for tls in tls.filter(|tls| tls.enabled) {
        files.extend(&tls.ca);
        files.extend(tls.client.iter().flat_map(|pair| [&pair.cert, &pair.key]));
    }
    files
}

/// Returns what names servers.
pub(super) fn proxies(root: &Root) -> Vec<&Proxy> {
    let mut proxies: Vec<&Proxy> = Vec::new();
    for site in &root.sites {
        let auth = site.forward_auth.as_ref();
        proxies.extend(auth.and_then(|auth| auth.to.as_ref()));
        for route in &site.routes {
            let auth = route.forward_auth.as_ref();
            proxies.extend(auth.and_then(|auth| auth.to.as_ref()));
            proxies.extend(route.mirror.as_ref().map(|mirror| &mirror.to));
            proxies.extend(&route.proxy);
        }
    }
    proxies
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
