//! The tree against a plain scan of the routes in the order that the module's doc states.

use std::cmp::Reverse;
use std::path::Path;

use http::{HeaderMap, Method};
use proptest::prelude::*;

use super::{path, Plan, Request, Scratch};
use crate::config::model;
use crate::config::values::PathPattern;
use crate::config::{self, Config, OneFile};

fn load(text: String) -> Config {
    config::load(Path::new("edge.yaml"), &OneFile(text)).unwrap()
}

fn fits(pattern: &PathPattern, path: &str) -> bool {
    match pattern {
        PathPattern::Exact(exact) => exact == path,
        PathPattern::Prefix(prefix) => path
            .strip_prefix(&**prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        PathPattern::Glob(_, regex) | PathPattern::Regex(regex) => regex.compiled().is_match(path),
    }
}

/// Finds the route by a look at every one.
fn scan(site: &model::Site, path: &str, method: &Method) -> Option<usize> {
    let holds = |route: &model::Route| route.method.is_empty() || route.method.contains(method);
    let mut all = Vec::new();
    for (index, route) in site
        .routes
        .iter()
        .enumerate()
        .filter(|(_, route)| holds(route))
    {
        for pattern in route
            .path
            .iter()
            .map(|path| &path.value)
            .filter(|pattern| fits(pattern, path))
        {
            let kind = match pattern {
                PathPattern::Exact(_) => 0,
                PathPattern::Glob(..) => 1,
                PathPattern::Regex(_) => 2,
                PathPattern::Prefix(_) => 3,
            };
            let length = pattern.literal().len();
            all.push((
                kind != 0,
                Reverse(length),
                kind,
                Reverse(route.method.len()),
                index,
            ));
        }
    }
    all.into_iter().min().map(|(.., index)| index)
}

fn pattern() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "ab", "abc", "*", "a*", "**"]);
    let segments = prop::collection::vec(segment, 0..4);
    let end = prop::sample::select(vec!["", "/*", "/"]);
    let path = (segments, end).prop_map(|(segments, end)| {
        let path: String = segments
            .iter()
            .map(|segment| format!("/{segment}"))
            .collect();
        let path = format!("{path}{end}");
        if path.is_empty() {
            "/".to_owned()
        } else {
            path
        }
    });
    let regex = prop::sample::select(vec!["~/a.*", "~/(a|b)/.*", "~/ab?/c*", "~.*c", "~^/ab+c?"]);
    prop_oneof![4 => path, 1 => regex.prop_map(str::to_owned)]
}

fn routes() -> impl Strategy<Value = Vec<(Vec<String>, bool)>> {
    let paths = prop::collection::vec(pattern(), 1..3);
    prop::collection::vec((paths, any::<bool>()), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_tree_finds_what_a_scan_finds(
        routes in routes(),
        paths in prop::collection::vec("(/(a|b|ab|abc|c)?){1,4}", 1..20),
    ) {
        let mut text = "listen: 127.0.0.1:80\nsites:\n  - routes:\n".to_owned();
        let mut known = std::collections::HashSet::new();
        for (paths, post) in routes.iter().filter(|route| known.insert((*route).clone())) {
            let method = if *post { "method: POST, " } else { "" };
            let paths: Vec<_> = paths.iter().map(|path| format!("'{path}'")).collect();
            text.push_str(&format!("      - {{path: [{}], {method}respond: 200}}\n", paths.join(", ")));
        }
        let config = load(text);
        let plan = Plan::compile(&config).unwrap();
        let mut scratch = Scratch::default();
        let headers = HeaderMap::new();
        for raw in &paths {
            let path = path::normalise(raw.as_bytes()).unwrap();
            for method in [Method::GET, Method::POST] {
                let request = Request {
                    method: &method,
                    secure: false,
                    host: "a",
                    authority: None,
                    path: &path,
                    query: None,
                    headers: &headers,
                    client: None,
                    tls_client: None,
                    id: "",
                };
                let found = plan.find(&request, 0, &mut scratch).map(|found| found.index);
                let expected = scan(&config.model.sites[0], path.matched(), &method);
                prop_assert_eq!(found, expected, "{} {}", method, raw);
            }
        }
    }
}
