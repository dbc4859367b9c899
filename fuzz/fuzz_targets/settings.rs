//! Settings files: whatever they hold, they are read or refused; a refusal names its key, and what was read is written
//! in a form that reads the same.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pingora_core::server::configuration::ServerConf;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Document(&'a str),
    /// Keys that are known, and what stands behind each.
    Settings(Vec<(u8, &'a str)>),
}

fn keys() -> &'static [String] {
    static KEYS: OnceLock<Vec<String>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let all = ServerConf::default().to_yaml();
        let keys = all.lines().filter_map(|line| line.split_once(':'));
        let known = |key: &str| {
            key.bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
        };
        keys.map(|(key, _)| key.to_owned())
            .filter(|key| known(key))
            .collect()
    })
}

fn must_read_the_same(conf: &ServerConf) {
    let written = conf.to_yaml();
    let again = ServerConf::from_yaml(&written).expect("what was written");
    assert_eq!(again, *conf, "{written}");
}

fuzz_target!(|input: Input| {
    let (document, key) = match &input {
        Input::Document(document) => (document.to_string(), None),
        Input::Settings(settings) => {
            let line = |(key, value): &(u8, &str)| {
                let key = &keys()[usize::from(*key) % keys().len()];
                (key.as_str(), format!("{key}: {value}\n"))
            };
            let lines: Vec<_> = settings.iter().map(line).collect();
            let document = lines.iter().map(|(_, line)| line.as_str()).collect();
            let key = match &lines[..] {
                [(key, _)] => Some(*key),
                _ => None,
            };
            (document, key)
        }
    };
    match ServerConf::from_yaml(&document) {
        Ok(conf) => must_read_the_same(&conf),
        Err(e) => {
            let said = e.to_string();
            // A value may be the beginning of anything, and the key of another line be at fault.
            let one_line = document.trim_end().lines().count() == 1;
            if let Some(key) = key.filter(|_| one_line && !said.contains("no valid YAML")) {
                assert!(said.contains(key), "{document:?}: {said}");
            }
        }
    }
});
