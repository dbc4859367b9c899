//! Files, and what is said of them.

#![allow(clippy::unwrap_used)]

mod common;

use common::Memory;
use edge::plan::Action;

/// Has every error of `text` be one of `expected`: a place and a part of the message each.
fn errors(text: &str, expected: &[&str]) {
    errors_of(&Memory::of(&[("edge.yaml", text)]), expected);
}

#[track_caller]
fn errors_of(world: &Memory, expected: &[&str]) {
    let found = world.plan().map(|_| ()).expect_err("errors");
    let said: Vec<_> = found
        .problems
        .iter()
        .map(|p| format!("{}: {}", p.at, p.message))
        .collect();
    assert_eq!(said, expected, "{found}");
}

const EXAMPLE: &str = r#"
listen: ["0.0.0.0:80", "0.0.0.0:443"]
sites:
  - hosts: [example.org, "*.example.org"]
    tls: {cert: c.pem, key: k.pem}
    routes:
      - path: /api/*
        strip_prefix: /api
        proxy: {to: [10.0.0.1:9000, 10.0.0.2:9000], balance: least_requests}
      - proxy: {to: app.internal:8080}
"#;

#[test]
fn the_short_form_is_the_whole_form() {
    let (config, plan) = Memory::of(&[("edge.yaml", EXAMPLE)]).plan().unwrap();
    let tls: Vec<_> = plan.listeners.iter().map(|listener| listener.tls).collect();
    assert_eq!(tls, [false, true]);
    assert_eq!(plan.clusters[0].endpoints.len(), 2);
    assert!(matches!(plan.sites[0].routes[1].action, Action::Proxy(1)));
    let adapted = config.adapt();
    let again = Memory::of(&[("edge.yaml", &adapted)]).load().unwrap();
    assert_eq!(again.adapt(), adapted);
    assert!(adapted.contains("- address: 10.0.0.1:9000\n"), "{adapted}");
}

#[test]
fn every_error_is_told_in_the_order_of_the_file() {
    errors(
        "listen: 0.0.0.0\nsites:\n  - routes:\n      - strp_prefix: /api\n        proxy: {to: app:x}\n      - respond: 99\n",
        &[
            "edge.yaml:1:9: `0.0.0.0` is not an address: it has no port; expected `IP:PORT`, `NAME:PORT` or \
             `unix:/PATH`, such as `10.0.0.1:9000`",
            "edge.yaml:4:9: unknown key `strp_prefix` in a route; did you mean `strip_prefix`?",
            "edge.yaml:5:21: `app:x` is not an address: the port is none of 1 to 65535; expected `IP:PORT`, \
             `NAME:PORT`, `unix:/PATH` or `srv:NAME`, such as `10.0.0.1:9000`",
            "edge.yaml:6:18: `99` is not a status; expected a number from 200 to 599, such as `404`",
        ],
    );
}

#[test]
fn an_error_shows_its_line_and_a_caret() {
    let text = "listen: 127.0.0.1:80\nsites:\n  - {routes: [{strp_prefix: /api, respond: 200}]}\n";
    let found = Memory::of(&[("edge.yaml", text)])
        .load()
        .unwrap_err()
        .to_string();
    let shown =
        "edge.yaml:3:16: unknown key `strp_prefix` in a route; did you mean `strip_prefix`?\n      - {routes: [{strp_prefix: /api, respond: 200}]}\n                   ^\n";
    assert_eq!(found, shown);
}

#[test]
fn words_of_other_proxies_in_values_from_elsewhere_stand_for_themselves() {
    let text = r#"
listen: 127.0.0.1:80
sites:
  - routes:
      - {request_headers: {set: {x-a: "${file:secret}", x-b: "b ${env:TOKEN}"}}, proxy: 10.0.0.1:80}
"#;
    let mut world = Memory::of(&[("edge.yaml", text), ("secret", "a$arg_hunter2\n")]);
    world.env.insert("TOKEN".into(), "$host".into());
    world.plan().map_err(|e| e.to_string()).unwrap();
}

#[test]
fn adapt_names_secrets_as_the_file_does() {
    let text = r#"
listen: "127.0.0.1:${env:PORT}"
admin: {address: 127.0.0.1:1, token: "${file:secret}"}
sites:
  - routes:
      - {proxy: {to: 10.0.0.1:80, sticky: {cookie: c, secret: in the clear}}, request_headers: {set: {x-a: "Bearer ${file:secret}"}}}
"#;
    let mut world = Memory::of(&[("edge.yaml", text), ("secret", "0123456789abcdef\n")]);
    let adapted = world.load().unwrap().adapt();
    for shown in [
        "${env:PORT}",
        "token: \"${file:secret}\"",
        "x-a: \"Bearer ${file:secret}\"",
        "secret: \"***\"",
    ] {
        assert!(adapted.contains(shown), "{shown} in {adapted}");
    }
    for hidden in ["0123456789abcdef", "in the clear", "9000"] {
        assert!(!adapted.contains(hidden), "{hidden} in {adapted}");
    }
    world
        .files
        .insert("edge.yaml".into(), adapted.clone().into_bytes());
    assert_eq!(world.load().unwrap().adapt(), adapted);
}

#[test]
fn what_names_tell_of_is_shown_to_nobody() {
    let text = r#"
listen: 127.0.0.1:80
acme: {on_demand: {ask: 'http://10.0.0.1/?key=hunter2'}}
sites:
  - {hosts: '*.a.test', tls: auto, routes: {respond: 200}}
  - routes:
      - request_headers: {set: {authorization: Bearer hunter2, x-plain: seen}, add: {x-api-key: hunter2}}
        header: {authorization: hunter2, x-other: "*", cookie: "*"}
        cookie: {session: hunter2, theme: dark}
        query: {access_token: hunter2}
        proxy: {to: 10.0.0.1:80, health: {path: /up, headers: {X-Token: hunter2}}}
"#;
    let config = Memory::of(&[("edge.yaml", text)]).load().unwrap();
    for printed in [config.adapt(), config.shown()] {
        assert!(!printed.contains("hunter2"), "{printed}");
        for shown in [
            "x-plain: seen",
            "theme: dark",
            "x-other: \"*\"",
            "cookie: \"*\"",
        ] {
            assert!(printed.contains(shown), "{shown} in {printed}");
        }
    }
}

#[test]
fn files_are_found_from_the_file_that_names_them() {
    let site =
        "sites: [{hosts: a.test, tls: {cert: c.pem, key: /k.pem}, routes: {respond: 200}}]\n";
    let world = Memory::of(&[
        (
            "conf/edge.yaml",
            "listen: 127.0.0.1:443\ninclude: sites/*.yaml\n",
        ),
        ("conf/sites/a.yaml", site),
    ]);
    let config = edge::config::load("conf/edge.yaml".as_ref(), &world).unwrap();
    let cert = &config.model.sites[0].tls.files()[0].cert;
    assert_eq!(cert.to_str(), Some("conf/sites/c.pem"));
    let adapted = config.adapt();
    assert!(adapted.contains("cert: sites/c.pem\n"), "{adapted}");
    let said = config
        .check_files(&world, &config.watched)
        .unwrap_err()
        .to_string();
    let shown = "conf/sites/a.yaml:1:37: cannot read the file `sites/c.pem`: not found";
    assert!(said.starts_with(shown), "{said}");
}

#[test]
fn adapt_tells_names_apart_that_differ_in_the_case_of_letters() {
    let text = "
listen: 127.0.0.1:80
sites:
  - routes:
      - {query: {b: \"${env:PORT}\", B: \"2\"}, respond: 200}
";
    let adapted = Memory::of(&[("edge.yaml", text)]).load().unwrap().adapt();
    assert!(
        adapted.contains("B: \"2\"") || adapted.contains("B: 2\n"),
        "{adapted}"
    );
    assert!(adapted.contains("b: \"${env:PORT}\""), "{adapted}");
}

#[test]
fn an_include_that_leads_back_by_another_name_is_told_once() {
    let dir = tempfile::TempDir::new().unwrap();
    let inc = dir.path().join("inc");
    std::fs::create_dir(&inc).unwrap();
    let path = inc.join("e.yaml");
    std::fs::write(
        &path,
        "include: ../inc/e.yaml\nlisten: 127.0.0.1:80\nsites: {routes: {respond: 200}}\n",
    )
    .unwrap();
    let said = edge::config::load(&path, &edge::config::Disk).unwrap_err();
    assert_eq!(said.problems.len(), 1, "{said}");
    assert!(said.to_string().contains("which is read already"), "{said}");
}

#[test]
fn the_folder_of_an_include_is_no_pattern() {
    let dir = tempfile::TempDir::new().unwrap();
    let inc = dir.path().join("[x]*");
    std::fs::create_dir_all(inc.join("conf.d")).unwrap();
    let path = inc.join("e.yaml");
    std::fs::write(&path, "include: conf.d/*.yaml\nlisten: 127.0.0.1:80\n").unwrap();
    std::fs::write(
        inc.join("conf.d/a.yaml"),
        "sites: {routes: {respond: 200}}\n",
    )
    .unwrap();
    let config = edge::config::load(&path, &edge::config::Disk).unwrap();
    assert_eq!(config.model.sites.len(), 1);
}
