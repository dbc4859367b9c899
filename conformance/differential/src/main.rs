//! What a proxy makes of the bytes that a client or an origin sends, beside others, and beside a strict reader.
//!
//! ```text
//! differential table BINARY          prints the table of docs/parsing.md, with nginx and HAProxy
//! differential check BINARY DOC      compares our column of it with what is so now
//! differential fuzz BINARY SECONDS [SEED]     BINARY may be nginx or haproxy too
//! ```

mod cases;
mod client;
mod fuzz;
mod h2;
mod mutate;
mod origin;
mod proxies;
mod strict;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["table", binary] => print_table(Path::new(binary)),
        ["check", binary, doc] => check_table(Path::new(binary), doc),
        ["fuzz", binary, seconds] => run_fuzz(Path::new(binary), seconds, None),
        ["fuzz", binary, seconds, seed] => run_fuzz(Path::new(binary), seconds, Some(seed)),
        _ => Err(
            "usage: differential table BINARY | check BINARY DOC | fuzz BINARY SECONDS [SEED]"
                .into(),
        ),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("differential: {e}");
            ExitCode::FAILURE
        }
    }
}

/// A folder for sockets and configurations, which is gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("differential-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| e.to_string())?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn print_table(binary: &Path) -> Result<(), String> {
    let folder = Folder::new()?;
    let origin = Origin::start().map_err(|e| e.to_string())?;
    let address = origin.address();
    let proxies = [
        proxies::ours(&folder.0, binary, address)?,
        proxies::nginx(&folder.0, address)?,
        proxies::haproxy(&folder.0, address)?,
    ];
    print!("{}", table::table(&proxies, &origin)?);
    Ok(())
}

fn check_table(binary: &Path, doc: &str) -> Result<(), String> {
    let folder = Folder::new()?;
    let origin = Origin::start().map_err(|e| e.to_string())?;
    let proxy = proxies::ours(&folder.0, binary, origin.address())?;
    let text = std::fs::read_to_string(doc).map_err(|e| format!("{doc}: {e}"))?;
    let rows = table::check(&proxy, &origin, &text)?;
    println!("{rows} rows of {doc} are as they were");
    Ok(())
}

fn run_fuzz(binary: &Path, seconds: &str, seed: Option<&str>) -> Result<(), String> {
    let seconds = seconds
        .parse()
        .map_err(|_| format!("seconds: `{seconds}` is no number"))?;
    let seed = seed.map(|seed| {
        seed.parse()
            .map_err(|_| format!("seed: `{seed}` is no number"))
    });
    let folder = Folder::new()?;
    fuzz::run(&folder.0, binary, seconds, seed.transpose()?)
}

use origin::Origin;
