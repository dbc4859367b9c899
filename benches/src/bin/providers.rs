//! The cost of TLS for a server with each of rustls's two providers of cryptography: aws-lc-rs and ring.
//!
//! Client and server are in memory, and only the server's calls are timed, by the processor time of the thread. Rounds
//! of both providers alternate, so that what else runs meets both.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use nix::time::{clock_gettime, ClockId};
use rcgen::{generate_simple_self_signed, CertifiedKey};
use rustls::crypto::{aws_lc_rs, ring, CryptoProvider};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, NamedGroup, RootCertStore, ServerConfig,
    ServerConnection,
};

#[derive(Parser)]
#[command(about = "Compares rustls's providers of cryptography on the server's side of TLS 1.3.")]
struct Args {
    /// Rounds of each provider; the median counts.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Handshakes of a round.
    #[arg(long, default_value_t = 200)]
    handshakes: usize,
    /// Records of 16 KiB of a round.
    #[arg(long, default_value_t = 2000)]
    records: usize,
}

type Failure = Box<dyn std::error::Error>;

const RECORD: usize = 16 * 1024;

#[derive(Clone, Copy)]
enum Work {
    /// A full handshake with this key exchange.
    Full(NamedGroup),
    /// A handshake that resumes a session by a ticket.
    Resumed,
    /// Records to the client.
    Seal(CipherSuite),
    /// Records of the client.
    Open(CipherSuite),
}

const ROWS: [(&str, Work); 8] = [
    ("handshake, X25519", Work::Full(NamedGroup::X25519)),
    (
        "handshake, X25519MLKEM768",
        Work::Full(NamedGroup::X25519MLKEM768),
    ),
    ("handshake, resumed", Work::Resumed),
    (
        "16 KiB sent, AES-128-GCM",
        Work::Seal(CipherSuite::TLS13_AES_128_GCM_SHA256),
    ),
    (
        "16 KiB received, AES-128-GCM",
        Work::Open(CipherSuite::TLS13_AES_128_GCM_SHA256),
    ),
    (
        "16 KiB sent, AES-256-GCM",
        Work::Seal(CipherSuite::TLS13_AES_256_GCM_SHA384),
    ),
    (
        "16 KiB sent, ChaCha20-Poly1305",
        Work::Seal(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    ),
    (
        "16 KiB received, ChaCha20-Poly1305",
        Work::Open(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    ),
];

fn main() -> ExitCode {
    match table(&Args::parse()) {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn table(args: &Args) -> Result<String, Failure> {
    let providers = [aws_lc_rs::default_provider(), ring::default_provider()];
    let key = generate_simple_self_signed(["localhost".to_owned()])?;
    let mut table = String::from(
        "| processor time of the server, µs | aws-lc-rs | ring | aws-lc-rs / ring |\n|---|---:|---:|---:|\n",
    );
    for (name, work) in ROWS {
        let mut ends = Vec::new();
        for provider in &providers {
            ends.push(Ends::new(provider, work, &key)?);
        }
        let mut rounds = [Vec::new(), Vec::new()];
        // The first round warms up.
        for round in 0..=args.rounds {
            for (ends, times) in ends.iter().zip(&mut rounds) {
                let Some(ends) = ends else { continue };
                let time = ends.round(work, args)?;
                if round > 0 {
                    times.push(time);
                }
            }
        }
        let [aws, ring] = rounds.map(median);
        let shown = |time: Option<f64>| time.map_or("none".to_owned(), |t| format!("{t:.2}"));
        let ratio = aws.zip(ring).map(|(aws, ring)| aws / ring);
        table += &format!(
            "| {name} | {} | {} | {} |\n",
            shown(aws),
            shown(ring),
            shown(ratio)
        );
    }
    Ok(table)
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// The settings of the two ends of a connection.
struct Ends {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Ends {
    /// None where the provider lacks what the work is of.
    fn new(
        provider: &CryptoProvider,
        work: Work,
        key: &CertifiedKey<rcgen::KeyPair>,
    ) -> Result<Option<Ends>, Failure> {
        let mut provider = provider.clone();
        match work {
            Work::Full(group) => provider.kx_groups.retain(|g| g.name() == group),
            Work::Seal(suite) | Work::Open(suite) => {
                provider.cipher_suites.retain(|s| s.suite() == suite);
            }
            Work::Resumed => provider
                .kx_groups
                .retain(|g| g.name() == NamedGroup::X25519),
        }
        if provider.kx_groups.is_empty() || provider.cipher_suites.is_empty() {
            return Ok(None);
        }
        let tickets = match work {
            Work::Resumed => 1,
            _ => 0,
        };
        let provider = Arc::new(provider);
        let certificate = key.cert.der().clone();
        let private = PrivateKeyDer::try_from(key.signing_key.serialize_der())?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], private)?;
        server.send_tls13_tickets = tickets;
        let mut roots = RootCertStore::empty();
        roots.add(certificate)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Some(Ends {
            server: Arc::new(server),
            client: Arc::new(client),
        }))
    }

    /// The microseconds that the server takes for one handshake or record, on average.
    fn round(&self, work: Work, args: &Args) -> Result<f64, Failure> {
        let (times, spent) = match work {
            Work::Full(_) | Work::Resumed => {
                let mut spent = Duration::ZERO;
                for _ in 0..args.handshakes {
                    spent += self.connect()?.spent;
                }
                (args.handshakes, spent)
            }
            Work::Seal(_) | Work::Open(_) => {
                let mut connection = self.connect()?;
                connection.spent = Duration::ZERO;
                for _ in 0..args.records {
                    match work {
                        Work::Seal(_) => connection.send()?,
                        _ => connection.receive()?,
                    }
                }
                (args.records, connection.spent)
            }
        };
        Ok(spent.as_secs_f64() * 1e6 / times as f64)
    }

    fn connect(&self) -> Result<Connection, Failure> {
        let name = ServerName::try_from("localhost")?;
        let mut connection = Connection {
            client: ClientConnection::new(self.client.clone(), name)?,
            server: ServerConnection::new(self.server.clone())?,
            wire: Vec::new(),
            spent: Duration::ZERO,
        };
        while connection.server.is_handshaking() || connection.client.is_handshaking() {
            connection.flush_client()?;
            connection.flush_server()?;
        }
        Ok(connection)
    }
}

/// A connection in memory.
struct Connection {
    client: ClientConnection,
    server: ServerConnection,
    wire: Vec<u8>,
    /// The processor time of the server.
    spent: Duration,
}

impl Connection {
    fn flush_client(&mut self) -> Result<(), Failure> {
        self.wire.clear();
        while self.client.wants_write() {
            self.client.write_tls(&mut self.wire)?;
        }
        let begun = now()?;
        let mut wire = &self.wire[..];
        while !wire.is_empty() {
            self.server.read_tls(&mut wire)?;
            self.server.process_new_packets()?;
        }
        self.spent += now()? - begun;
        Ok(())
    }

    fn flush_server(&mut self) -> Result<(), Failure> {
        self.wire.clear();
        let begun = now()?;
        while self.server.wants_write() {
            self.server.write_tls(&mut self.wire)?;
        }
        self.spent += now()? - begun;
        let mut wire = &self.wire[..];
        while !wire.is_empty() {
            self.client.read_tls(&mut wire)?;
            self.client.process_new_packets()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Failure> {
        let record = [7; RECORD];
        let begun = now()?;
        std::io::Write::write_all(&mut self.server.writer(), &record)?;
        self.spent += now()? - begun;
        self.flush_server()?;
        let mut into = [0; RECORD];
        Ok(std::io::Read::read_exact(
            &mut self.client.reader(),
            &mut into,
        )?)
    }

    fn receive(&mut self) -> Result<(), Failure> {
        std::io::Write::write_all(&mut self.client.writer(), &[7; RECORD])?;
        self.flush_client()?;
        let mut into = [0; RECORD];
        let begun = now()?;
        std::io::Read::read_exact(&mut self.server.reader(), &mut into)?;
        self.spent += now()? - begun;
        Ok(())
    }
}

/// The processor time of this thread.
fn now() -> Result<Duration, Failure> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
