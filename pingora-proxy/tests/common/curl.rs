//! curl, and files for it.

use super::Proxy;
use std::path::Path;
use std::process::Command;

/// What curl prints; it must succeed.
#[track_caller]
pub fn curl(proxy: &Proxy, args: &[&str]) -> Vec<u8> {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "60",
            "--unix-socket",
        ])
        .arg(proxy.path())
        .args(args)
        .output()
        .expect("these tests need curl");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {args:?}: {said}");
    output.stdout
}

/// So many bytes of text.
pub fn letters(size: usize) -> Vec<u8> {
    (0..size)
        .map(|i| b'a' + (i % 26 + i / 4096) as u8 % 26)
        .collect()
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
