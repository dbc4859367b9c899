//! Runs the cases of RFC 9113 that the crate httpwg has, each up to three times: its own reader gives up when
//! the end of a connection comes with its last frame. Prints what failed, and how many passed.

// The macro below needs it.
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use buffet::net::TcpStream;
use buffet::IntoHalves;
use httpwg::{Config, Conn};
use tokio::task::LocalSet;

/// How long a case waits for a frame.
const TIMEOUT: Duration = Duration::from_secs(2);
const TRIES: usize = 3;

fn main() -> eyre::Result<()> {
    let Some(Ok(addr)) = std::env::args().nth(1).map(|arg| arg.parse()) else {
        eyre::bail!("which server? An address is needed");
    };
    // What a case that panics has to say is said below.
    std::panic::set_hook(Box::new(|_| {}));
    buffet::start(run(addr));
    Ok(())
}

async fn run(addr: SocketAddr) {
    let (mut passed, mut all) = (0, 0);
    for (section, cases) in catalog::<TcpStream>().into_values().flatten() {
        for (name, case) in cases {
            let case = Rc::new(case);
            let mut outcome = Err(String::new());
            for _ in 0..TRIES {
                outcome = once(addr, case.clone()).await;
                if outcome.is_ok() {
                    break;
                }
            }
            all += 1;
            match outcome {
                Ok(()) => passed += 1,
                Err(why) => println!("failed: {section}: {name}: {why}"),
            }
        }
    }
    println!("passed {passed} of {all}");
}

async fn once<IO>(addr: SocketAddr, case: Rc<httpwg::BoxedTest<IO>>) -> Result<(), String>
where
    IO: IntoHalves + From<TcpStream> + 'static,
{
    let stream = TcpStream::connect(addr).await.map_err(|e| e.to_string())?;
    let conf = Rc::new(Config {
        timeout: TIMEOUT,
        ..Config::default()
    });
    let local = LocalSet::new();
    let conn = Conn::new(conf, IO::from(stream));
    let case = local.spawn_local(async move { case(conn).await });
    local.await;
    match case.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => Err(why.to_string()),
        Err(panicked) => Err(panicked.to_string()),
    }
}

httpwg_macros::gen_catalog!(catalog);
