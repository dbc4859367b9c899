//! `reverse-proxy top`: the main figures of a running proxy in a terminal, from its admin interface.

mod client;
mod figures;
mod screen;
mod view;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::config::section::Scalar;
use crate::config::values::{Address, Secret};
use crate::plan::Admin;
use client::Client;
use screen::{Key, Screen};

/// The time between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Columns and lines where there is no terminal.
const PLAIN: (usize, usize) = (120, usize::MAX);

/// Where the admin interface is, and what it wants to know.
pub struct AdminAddress {
    /// The address.
    pub address: Address,
    /// The token.
    pub token: Option<String>,
}

/// Finds the admin interface: by what is given, else as a configuration says, else at `127.0.0.1:9900`.
///
/// # Errors
///
/// In a line: an address that is none.
pub fn place(
    known: Option<Admin>,
    address: Option<&str>,
    token: Option<&str>,
) -> Result<AdminAddress, String> {
    let (its_address, its_token) = known.map_or((None, None), |admin| {
        (Some(admin.address), admin.token.map(|Secret(token)| token))
    });
    let given = address.map(|text| {
        let parsed = Address::parse(text);
        parsed.map_err(|_| {
            format!(
                "--admin: `{text}` is no address; expected {}",
                Address::ALLOWED
            )
        })
    });
    let default = || Address::Ip(SocketAddr::from(([127, 0, 0, 1], 9900)));
    Ok(AdminAddress {
        address: given.transpose()?.or(its_address).unwrap_or_else(default),
        token: token.map(str::to_owned).or(its_token),
    })
}

/// Shows the figures of the proxy whose admin interface is at `address`: each second until `q`, Escape or Ctrl-C, or,
/// with `once`, those of one second as plain text.
///
/// # Errors
///
/// In a line: the interface is not reached, refuses, or answers with something else; the terminal cannot be used.
pub fn run(address: &Address, token: Option<&str>, once: bool) -> Result<(), String> {
    let client = Client::new(address, token);
    if once {
        let before = client.status()?;
        std::thread::sleep(PERIOD);
        let now = client.status()?;
        let mut out = std::io::stdout().lock();
        for line in view::lines(&now, Some(&before), PLAIN) {
            // Nobody is left to be told when stdout is closed.
            let _ = writeln!(out, "{}", line.plain());
        }
        return Ok(());
    }
    if !std::io::stdout().is_terminal() {
        return Err("standard output is no terminal; `--once` prints a table".into());
    }
    // Before the screen is taken: an error is to stay on it.
    let first = client.status()?;
    let screen = Screen::take().map_err(|e| format!("the terminal cannot be used: {e}"))?;
    watch(&client, first, &screen).map_err(|e| format!("the terminal cannot be used: {e}"))
}

fn watch(client: &Client, first: Value, screen: &Screen) -> std::io::Result<()> {
    let (mut before, mut now) = (None, first);
    let mut failed: Option<String> = None;
    loop {
        let size = screen.size()?;
        let mut lines = view::lines(&now, before.as_ref(), size);
        if let Some(why) = &failed {
            lines.insert(0, view::alarm(why));
        }
        screen.show(&lines, size)?;
        match screen.key(PERIOD)? {
            Some(Key::Quit) => return Ok(()),
            // Another size is drawn at once.
            Some(Key::Other) => continue,
            None => {}
        }
        match client.status() {
            Ok(status) => {
                before = Some(std::mem::replace(&mut now, status));
                failed = None;
            }
            Err(why) => failed = Some(why),
        }
    }
}
