//! A service that is no HTTP: it sends back what it receives.

use async_trait::async_trait;
use clap::Parser;
use edge::program::{self, Program};
use pingora_core::apps::ServerApp;
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::listening::Service;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An echo server.
#[derive(Parser)]
struct Args {
    /// Where to listen: IP:PORT or unix:/PATH
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:7007")]
    listen: String,
}

struct Echo;

#[async_trait]
impl ServerApp for Echo {
    async fn process_new(
        self: &Arc<Self>,
        mut stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        // Waiting on the watch is fine here, once per connection; its own copy, since waiting
        // marks the change as seen.
        let mut shutdown = shutdown.clone();
        let result = tokio::select! {
            result = echo(&mut stream) => result,
            _ = shutdown.changed() => stream.shutdown().await,
        };
        if let Err(e) = result {
            log::info!("the connection broke: {e}");
        }
        // A stream that is returned would be offered to `process_new` again.
        None
    }
}

async fn echo(stream: &mut Stream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let size = stream.read(&mut buffer).await?;
        if size == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..size]).await?;
        stream.flush().await?;
    }
}

fn run(args: &Args) -> Result<(), String> {
    let program = Program::new(&args.listen)?;
    let hint = format!("echo hello | socat - {}", args.listen);
    program.run(Service::new("echo".into(), Echo), &hint)
}

fn main() -> ExitCode {
    program::exit("tcp-echo", run(&Args::parse()))
}
