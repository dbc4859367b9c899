//! Files of the reverse proxy: whatever they hold, they are read or refused with places in them; what was read is printed in
//! a form that reads the same; a plan explains any request, and finds the route that it explains.
#![no_main]

use std::io;
use std::path::{Path, PathBuf};

use edge::config::{self, World};
use edge::plan::{explain, path, Plan, Question};
use libfuzzer_sys::fuzz_target;

const FILE: &str = "edge.yaml";

struct Memory<'a>(&'a [u8]);

impl World for Memory<'_> {
    fn read(&self, path: &Path, _: usize) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some(FILE) => Ok(self.0.to_vec()),
            Some("a") => Ok(b"127.0.0.1:80\n".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn glob(&self, pattern: &str) -> Result<Vec<PathBuf>, String> {
        Ok(vec![pattern.into()])
    }

    fn env(&self, name: &str) -> Option<String> {
        (name == "A").then(|| "${env:A}".into())
    }
}

/// A file, and after a line of `====` the address of a request.
fn split(data: &[u8]) -> (&[u8], &str) {
    let line = b"\n====\n";
    let at = data.windows(line.len()).position(|window| window == line);
    let (file, url) = at.map_or((data, &b"a.test/api/x?q"[..]), |at| (&data[..at + 1], &data[at + line.len()..]));
    (file, std::str::from_utf8(url).unwrap_or("a.test/"))
}

fuzz_target!(|data: &[u8]| {
    let (file, url) = split(data);
    if let Ok(normal) = path::normalise(url.as_bytes()) {
        assert_eq!(path::normalise(normal.as_str().as_bytes()).as_ref(), Ok(&normal));
    }
    let config = match config::load(Path::new(FILE), &Memory(file)) {
        Ok(config) => config,
        Err(errors) => {
            assert!(!errors.problems.is_empty());
            let _ = errors.to_string();
            return;
        }
    };
    let printed = config.adapt();
    let again = config::load(Path::new(FILE), &Memory(printed.as_bytes()));
    let again = again.unwrap_or_else(|errors| panic!("{printed}\n{errors}"));
    assert_eq!(again.adapt(), printed);
    let Ok(plan) = Plan::compile(&config) else {
        return;
    };
    let question = Question {
        method: "GET".parse().expect("a method"),
        url: url.to_owned(),
        headers: Default::default(),
        client: None,
    };
    let _ = explain(&plan, &question).to_string();
});
