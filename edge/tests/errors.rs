//! The errors of files: each table holds files and what is said of them. `BLESS=1` writes what is said now.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::Memory;

const TABLES: [&str; 2] = ["tests/errors.txt", "tests/errors-upstreams.txt"];

#[test]
fn files_and_what_is_said_of_them() {
    TABLES.into_iter().for_each(check);
}

fn check(path: &str) {
    let table = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let mut now = String::new();
    for case in table
        .split_inclusive("\n====\n")
        .map(|case| case.trim_end_matches("====\n"))
    {
        let (file, _) = case.split_once("----\n").unwrap();
        let world = Memory::of(&[
            ("edge.yaml", file),
            ("secret", "hunter2\n"),
            (
                "conf.d/again.yaml",
                "include: edge.yaml\nlisten: [127.0.0.1:81]\n",
            ),
            ("conf.d/bad.yaml", "sites: [{routes: [{respons: 200}]}]\n"),
            ("conf.d/twice.yaml", "{}"),
        ]);
        let said = match world.plan() {
            Ok(_) => "good\n".to_owned(),
            Err(errors) => errors.to_string(),
        };
        now.push_str(&format!("{file}----\n{said}====\n"));
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let (now, then): (Vec<_>, Vec<_>) = (now.lines().collect(), table.lines().collect());
    assert_eq!(now, then);
}
