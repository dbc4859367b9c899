//! The process that a configuration asks for.

use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::server::Server;

use crate::program;

/// Idle connections to servers that are kept, for each worker.
const POOLED_CONNECTIONS: usize = 1024;

/// Settings of the process on the command line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// The number of worker threads, in place of the one of the configuration.
    pub threads: Option<usize>,
    /// True if to run in the background.
    pub daemon: bool,
    /// True if to take over the listening sockets of a process that runs.
    pub upgrade: bool,
}

impl Process {
    /// Returns the settings of the server: those of a configuration, where it has them, those of the command line above
    /// them, and below them what suits this program.
    ///
    /// # Errors
    ///
    /// Names the setting that cannot be used.
    pub fn conf(&self, settings: &str) -> Result<ServerConf, String> {
        let defaults = ServerConf {
            work_stealing: false,
            upstream_keepalive_pool_size: POOLED_CONNECTIONS,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            ..ServerConf::default()
        };
        let conf = ServerConf::from_yaml_with_defaults(settings, &defaults);
        let mut conf = conf.map_err(|e| e.to_string())?;
        conf.daemon |= self.daemon;
        match self.threads {
            None => {}
            Some(0) => return Err("--threads must be at least 1".into()),
            Some(threads) => conf.threads = threads,
        }
        if conf.daemon && conf.working_directory.is_none() {
            // Files that are named as seen from here are read again later.
            conf.working_directory = std::env::current_dir().ok();
        }
        let named = ServerConf::entries(settings);
        let said = |key: &str| conf.daemon || named.iter().any(|(name, _)| name == key);
        program::check_process(&conf, said)?;
        Ok(conf)
    }

    /// Makes the server, and takes listening sockets over if it is to.
    ///
    /// # Errors
    ///
    /// As [`Process::conf`].
    pub fn server(&self, settings: &str) -> Result<Server, String> {
        let opt = Opt {
            daemon: self.daemon,
            upgrade: self.upgrade,
            ..Opt::default()
        };
        let mut server = Server::new_with_opt_and_conf(opt, self.conf(settings)?);
        server.bootstrap();
        Ok(server)
    }
}
