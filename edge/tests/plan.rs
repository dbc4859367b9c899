//! Requests, and the routes that take them.

#![allow(clippy::unwrap_used)]

mod common;

use common::Memory;
use edge::plan::{host, path, Action, Plan, Request, Scratch};
use edge::tools;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// Returns the status of the answer to a request, or where it goes.
fn answer(plan: &Plan, method: &str, url: &str, headers: &[(&str, &str)], random: u32) -> String {
    let (host, rest) = url.split_once('/').unwrap();
    let rest = format!("/{rest}");
    let (raw, query) = match rest.split_once('?') {
        Some((raw, query)) => (raw, Some(query)),
        None => (&*rest, None),
    };
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let request = Request {
        method: &method.parse::<Method>().unwrap(),
        secure: false,
        host: &host::normalise(host).unwrap(),
        authority: None,
        path: &path::normalise(raw.as_bytes()).unwrap(),
        query,
        headers: &map,
        client: Some("10.1.2.3".parse().unwrap()),
        tls_client: None,
        id: "id",
    };
    let Some(found) = plan.find(&request, random, &mut Scratch::default()) else {
        return "none".into();
    };
    match &found.route.action {
        Action::Proxy(cluster) => {
            let to = &plan.clusters[*cluster].endpoints[0].address;
            let target = plan.target(found.route, &request, &mut Scratch::default());
            match target {
                Ok(target) => format!("{to}{target}"),
                Err(_) => "400".into(),
            }
        }
        Action::Redirect { .. } => {
            let location = plan.location(found.route, &request, &mut Scratch::default());
            location.unwrap()
        }
        Action::Respond { status, .. } => status.0.as_str().to_owned(),
    }
}

#[test]
fn routes_are_chosen_by_host_path_and_conditions() {
    let file = r#"
listen: 127.0.0.1:80
sites:
  - hosts: [a.test]
    routes:
      - {path: /api/*, strip_prefix: /api, proxy: 10.0.0.1:90}
      - {path: /api/v2, respond: 201}
      - {path: /api/*, method: POST, respond: 202}
      - {path: /files/*.php, respond: 203}
      - {path: '~/v[0-9]+(/.*)?', respond: 204}
      - {path: '/x/**/z', respond: 205}
      - {path: /in, client: 10.1.0.0/16, respond: 206}
      - {path: /in, header: {x-a: "b*"}, cookie: {s: "*"}, query: {q: "~[a-c]+"}, respond: 207}
      - {path: /old, redirect: "https://{host}{uri}"}
      - {path: ['~/b/(\d+)/(.*)', '~/c/(\w+)(/.*)?'], redirect: "/n{1}/x{2}?{query}"}
  - hosts: ["*.a.test"]
    routes: {respond: 210}
  - hosts: ["*.b.a.test"]
    routes: {respond: 211}
  - routes: {respond: 404}
"#;
    let (_, plan) = Memory::of(&[("edge.yaml", file)]).plan().unwrap();
    let table = [
        ("GET", "a.test/api/x?q", "10.0.0.1:90/x?q"),
        ("GET", "A.test.:80/api", "10.0.0.1:90/"),
        ("GET", "a.test/apix", "none"),
        ("GET", "a.test/api/v2", "201"),
        ("GET", "a.test/api/v2/", "10.0.0.1:90/v2/"),
        ("GET", "a.test/;p=1/api;v=1/x;p=2", "10.0.0.1:90/x;p=2"),
        ("POST", "a.test/api/x", "202"),
        ("GET", "a.test/files/a.php", "203"),
        ("GET", "a.test/files/a/b.php", "none"),
        ("GET", "a.test/v12/a", "204"),
        ("GET", "a.test/v", "none"),
        ("GET", "a.test/x/z", "none"),
        ("GET", "a.test/x/a/b/z", "205"),
        ("GET", "a.test/in", "206"),
        ("GET", "a.test/old?a=%0a", "https://a.test/old?a=%0a"),
        ("GET", "a.test/b/12/%22/y?q", "/n12/x%22/y?q"),
        ("GET", "a.test/%63/a", "/na/x?"),
        ("GET", "x.a.test/", "210"),
        ("GET", "y.x.a.test/", "210"),
        ("GET", "x.b.a.test/", "211"),
        ("GET", "b.test/", "404"),
        ("GET", "[::1]:80/", "404"),
    ];
    for (method, url, expected) in table {
        assert_eq!(
            answer(&plan, method, url, &[], 0),
            expected,
            "{method} {url}"
        );
    }
    let headers = [("x-a", "bc"), ("cookie", "t=1; s=2")];
    assert_eq!(answer(&plan, "GET", "a.test/in?q=%61b", &headers, 0), "207");
    assert_eq!(answer(&plan, "GET", "a.test/in?q=d", &headers, 0), "206");
}

#[test]
fn no_byte_hides_a_value_from_a_pattern() {
    let file = r#"
listen: 127.0.0.1:80
sites:
  - routes:
      - {path: /regex, query: {q: '~.*<script.*'}, respond: 403}
      - {path: /regex, header: {x-a: '~.*b.c.*'}, respond: 403}
      - {path: /glob, query: {q: '*<script*'}, respond: 403}
      - {path: /word, query: {q: '~[a-z]+'}, respond: 403}
      - {respond: 200}
"#;
    let (_, plan) = Memory::of(&[("edge.yaml", file)]).plan().unwrap();
    let pieces = ["", "%0A", "%0d%0a", "%FF", "%FF%FE%00", "%C3", "%C3%A9"];
    for around in pieces {
        for path in ["/regex", "/glob"] {
            let url = format!("a{path}?q={around}%3Cscript{around}");
            assert_eq!(answer(&plan, "GET", &url, &[], 0), "403", "{url}");
        }
    }
    assert_eq!(answer(&plan, "GET", "a/word?q=ab", &[], 0), "403");
    for other in ["ab%0A", "%FFab", "a%FFb"] {
        let url = format!("a/word?q={other}");
        assert_eq!(answer(&plan, "GET", &url, &[], 0), "200", "{url}");
    }
    // A character of several bytes is one.
    for value in ["b\u{e9}c", "\u{e9}b-c"] {
        assert_eq!(answer(&plan, "GET", "a/regex", &[("x-a", value)], 0), "403");
    }
}

#[test]
fn what_fills_a_rewrite_stays_where_it_is_put() {
    let file = r#"
listen: 127.0.0.1:80
sites:
  - routes:
      - {path: /get, rewrite: '/files/{query.name}', proxy: 10.0.0.1:90}
      - {path: /raw, rewrite: '/files/{query}', proxy: 10.0.0.1:90}
      - {path: /field, rewrite: '/files/{header.x-a}?of={header.x-a}&a=1', proxy: 10.0.0.1:90}
      - {path: '/u/*', rewrite: {regex: '/u/(.*)/(.*)', to: '/v/{1}/{2}?a={2}&{query}'}, proxy: 10.0.0.1:90}
      - {path: /admin/*, access: {deny: 0.0.0.0/0}, proxy: 10.0.0.1:90}
"#;
    let (_, plan) = Memory::of(&[("edge.yaml", file)]).plan().unwrap();
    for (url, expected) in [
        ("a/get?name=b.c", "/files/b.c?name=b.c"),
        ("a/get?name=b/c", "/files/b%2Fc?name=b/c"),
        ("a/get?name=../admin/x", "400"),
        ("a/get?name=..", "400"),
        ("a/get?name=%2e%2E", "400"),
        ("a/get?name=.", "400"),
        ("a/get?name=..%2fadmin", "400"),
        ("a/get?name=%252e%252e", "/files/%252e%252e?name=%252e%252e"),
        ("a/raw?b/c", "/files/b%2Fc?b/c"),
        ("a/raw?../admin", "400"),
        ("a/raw?%2e%2e", "400"),
        ("a/field", "/files/b%20&c?of=b%20%26c&a=1"),
        ("a/u/b/c/d&e+f?g&h", "/v/b/c/d&e+f?a=d%26e%2Bf&g&h"),
    ] {
        let found = answer(&plan, "GET", url, &[("x-a", "b &c")], 0);
        assert_eq!(found.replace("10.0.0.1:90", ""), expected, "{url}");
    }
}

#[test]
fn weights_share_the_requests() {
    let file = "
listen: 127.0.0.1:80
sites:
  - routes:
      - {path: /x, weight: 5, respond: 201}
      - {path: /x, weight: 0, respond: 202}
      - {path: /x, weight: 95, respond: 203}
";
    let (_, plan) = Memory::of(&[("edge.yaml", file)]).plan().unwrap();
    let mut canary = 0;
    for n in 0..1000u32 {
        match &*answer(&plan, "GET", "a/x", &[], n * (u32::MAX / 1000)) {
            "201" => canary += 1,
            other => assert_eq!(other, "203"),
        }
    }
    assert_eq!(canary, 51);
}

#[test]
fn a_request_is_explained() {
    let file = r#"
listen: 127.0.0.1:80
sites:
  - hosts: a.test
    routes:
      - path: /api/*
        header: {x-a: b}
        respond: 200
      - path: /api/*
        weight: 1
        rewrite: {regex: '/api/(\w+)/(.*)', to: '/{2}?user={1}'}
        request_headers:
          remove: x-c
          set: {x-b: "{client_ip} {header.x-a}"}
        proxy:
          to: [10.0.0.1:90, {address: "unix:/run/a.sock", weight: 3}]
      - path: /api/*
        weight: 3
        proxy: 10.0.0.1:91
      - respond: 404
"#;
    let (_, plan) = Memory::of(&[("edge.yaml", file)]).plan().unwrap();
    let headers = ["X-A: c".to_owned()];
    let question = tools::question(
        "GET",
        "http://a.test/x/../api/%6aoe/pics?q",
        &headers,
        Some("10.0.0.9"),
    )
    .unwrap();
    let expected = "\
GET http://a.test/x/../api/%6aoe/pics?q
path /api/joe/pics
site a.test
route 1 /api/* (edge.yaml:6:9), path /api/*
    header `x-a: b` does not hold
route 2 /api/* (edge.yaml:9:9), path /api/*
other paths 1
taken by 2 /api/* (edge.yaml:9:9), 1 of 4
    rewrite to /{2}?user={1}
    remove the request header x-c
    set the request header x-b: 10.0.0.9 c
    proxy GET /pics?user=joe, round_robin
    to 10.0.0.1:90
    to unix:/run/a.sock, weight 3
taken by 3 /api/* (edge.yaml:17:9), 3 of 4
    proxy GET /api/joe/pics?q, round_robin
    to 10.0.0.1:91
";
    assert_eq!(tools::explanation(&plan, &question, false), expected);
    let json: serde_json::Value =
        serde_json::from_str(&tools::explanation(&plan, &question, true)).unwrap();
    assert_eq!(
        json["taken"][0]["actions"][3],
        "proxy GET /pics?user=joe, round_robin"
    );
    let refused = tools::question("GET", "a.test/..;/x", &[], None).unwrap();
    let said = tools::explanation(&plan, &refused, false);
    assert!(
        said.contains("refused with 400: a `.` or `..` stands beside `;`"),
        "{said}"
    );
}

#[test]
fn an_explanation_shows_no_secrets() {
    let text = r#"
listen: 127.0.0.1:80
sites:
  - routes:
      - path: /a
        header: {x-key: "${file:secret}", authorization: hunter2, x-seen: plain}
        request_headers: {set: {authorization: Bearer hunter2, x-b: "${file:secret} {host}", x-c: "c {host}"}}
        rewrite: /x?token=${file:secret}
        proxy: 10.0.0.1:80
      - {path: /b, redirect: "/${file:secret}"}
      - {path: /c, forward_auth: {to: 10.0.0.1:80, path: /verify?token=hunter2}, proxy: 10.0.0.1:80}
"#;
    let world = Memory::of(&[("edge.yaml", text), ("secret", "hunter2\n")]);
    let (_, plan) = world.plan().unwrap();
    let explained = |path: &str| {
        let headers = ["x-seen: plain".to_owned()];
        let question = tools::question("GET", &format!("h{path}"), &headers, None).unwrap();
        [false, true].map(|json| tools::explanation(&plan, &question, json))
    };
    let asks = "forward_auth asks 10.0.0.1:80/verify?***";
    assert!(explained("/c")[0].contains(asks), "{}", explained("/c")[0]);
    for text in [explained("/a"), explained("/b"), explained("/c")].concat() {
        assert!(!text.contains("hunter2"), "{text}");
    }
    let [conditions, _] = explained("/a");
    for shown in ["x-key", "***", "x-seen", "plain"] {
        assert!(conditions.contains(shown), "{shown} in {conditions}");
    }
    // What a request meets is known without the conditions, too.
    let taken = text.replace(
        "header: {x-key: \"${file:secret}\", authorization: hunter2, x-seen: plain}",
        "header: {x-seen: plain}",
    );
    let world = Memory::of(&[("edge.yaml", &taken), ("secret", "hunter2\n")]);
    let (_, plan) = world.plan().unwrap();
    let headers = ["x-seen: plain".to_owned()];
    let question = tools::question("GET", "h/a", &headers, None).unwrap();
    let said = tools::explanation(&plan, &question, false);
    assert!(!said.contains("hunter2"), "{said}");
    for shown in [
        "set the request header authorization: ***",
        "set the request header x-b: ***",
        "set the request header x-c: c h",
        "rewrite to ***",
        "proxy GET ***",
    ] {
        assert!(said.contains(shown), "{shown} in {said}");
    }
}

#[test]
fn cookies_are_one_field_in_however_many_they_come() {
    let file = r#"
listen: 127.0.0.1:80
sites:
  - routes:
      - {path: /to, redirect: "/{header.cookie}"}
      - {header: {cookie: "~.*b=2.*c=3.*"}, respond: 201}
      - respond: 202
"#;
    let (_, plan) = Memory::of(&[("edge.yaml", file)]).plan().unwrap();
    let crumbs = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")];
    for cookies in [&crumbs[..], &[("cookie", "a=1; b=2; c=3")]] {
        assert_eq!(answer(&plan, "GET", "h/", cookies, 0), "201");
        let to = answer(&plan, "GET", "h/to", cookies, 0);
        assert_eq!(to, "/a=1;%20b=2;%20c=3");
    }
    assert_eq!(answer(&plan, "GET", "h/", &crumbs[1..2], 0), "202");
}

#[test]
fn an_address_is_of_bytes_that_one_may_have() {
    let file = "listen: 127.0.0.1:80\nsites: {routes: {redirect: \"/m\u{fc}nchen?q=\u{fc}\"}}\n";
    let (_, plan) = Memory::of(&[("edge.yaml", file)]).plan().unwrap();
    assert_eq!(answer(&plan, "GET", "h/", &[], 0), "/m%C3%BCnchen?q=%C3%BC");
}

#[test]
fn checks_that_differ_in_their_query_are_of_two_clusters() {
    let keys = |one: &str, other: &str| {
        let route = |path: &str, token: &str| {
            format!("{{path: {path}, proxy: {{to: 127.0.0.1:1, health: '/h?token={token}'}}}}")
        };
        let (one, other) = (route("/a", one), route("/b", other));
        let file = format!("listen: 127.0.0.1:80\nsites: {{routes: [{one}, {other}]}}\n");
        let (_, plan) = Memory::of(&[("edge.yaml", &file)]).plan().unwrap();
        let keys = plan.clusters.iter().map(|cluster| cluster.key.clone());
        keys.collect::<Vec<_>>()
    };
    assert_eq!(keys("1", "2").len(), 2);
    assert_eq!(keys("1", "1").len(), 1);
    assert_ne!(keys("1", "1"), keys("2", "2"));
}
