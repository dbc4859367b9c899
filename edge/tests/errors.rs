//! The errors of files: each table, `errors*.txt` and those in `errors/`, holds files and what is said of them. `BLESS=1`
//! writes what is said now.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::Memory;

#[test]
fn files_and_what_is_said_of_them() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = [tests.clone(), tests.join("errors")].map(|dir| std::fs::read_dir(dir).unwrap());
    let files = files.into_iter().flatten().map(|file| file.unwrap().path());
    let is_table = |file: &PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy();
        let own = name.starts_with("errors") || file.parent() != Some(&tests);
        own && name.ends_with(".txt")
    };
    let tables: Vec<_> = files.filter(is_table).collect();
    assert!(tables.len() > 2);
    for table in tables {
        compare(&table);
    }
}

fn compare(file: &Path) {
    let table = std::fs::read_to_string(file).unwrap();
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
                "page.html",
                "<style>h1 { color: red }</style><h1>{status} {1} {no}</h1>",
            ),
            ("htpasswd", include_str!("htpasswd")),
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
        std::fs::write(file, &now).unwrap();
    }
    let (now, then): (Vec<_>, Vec<_>) = (now.lines().collect(), table.lines().collect());
    assert_eq!(now, then, "{}", file.display());
}
