//! The settings of the process.

use pingora_core::server::configuration::ServerConf;

use super::Compiler;
use crate::config::model::Root;
use crate::config::section::Value;

impl Compiler<'_> {
    /// Returns the settings that the file has, in the form that the framework reads.
    pub(super) fn server(&mut self, root: &Root) -> String {
        let Some(server) = &root.server else {
            return String::new();
        };
        let settings = server.print().to_yaml();
        if let Err(e) = ServerConf::from_yaml(&settings) {
            let why = e
                .context
                .as_ref()
                .map_or_else(|| e.to_string(), |why| why.as_str().to_owned());
            self.errors.at(server.place, format!("`server`: {why}"));
        }
        settings
    }
}
