//! Uses of a file without running it, by the command line: each as a function that returns a text.

use std::net::IpAddr;
use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::{self, Config, ConfigErrors, World};
use crate::plan::{explain, Plan, Question};

/// Reads and compiles a configuration.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn compile(path: &Path, world: &dyn World) -> Result<(Config, Plan), ConfigErrors> {
    let config = config::load(path, world)?;
    let plan = Plan::compile(&config)?;
    Ok((config, plan))
}

/// Checks a configuration, and returns a line that says how much there is in it.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn check(path: &Path, world: &dyn World) -> Result<String, ConfigErrors> {
    let (config, plan) = compile(path, world)?;
    Ok(summary(path, &config, &plan))
}

/// Returns a line that says how much there is in a configuration that is good.
pub fn summary(name: &Path, config: &Config, plan: &Plan) -> String {
    let count = |n: usize, of: &str| format!("{n} {of}{}", if n == 1 { "" } else { "s" });
    format!(
        "{} is good: {}, {}, {}, {}",
        name.display(),
        count(config.sources.paths().count(), "file"),
        count(plan.sites.len(), "site"),
        count(
            plan.sites.iter().map(|site| site.routes.len()).sum(),
            "route"
        ),
        count(plan.clusters.len(), "cluster"),
    )
}

/// Returns the JSON schema of the file.
pub fn schema() -> String {
    config::schema().to_json()
}

/// Returns the whole effective configuration, as [`Config::adapt`] does.
///
/// # Errors
///
/// Everything that is wrong with the configuration.
pub fn adapt(path: &Path, world: &dyn World) -> Result<String, ConfigErrors> {
    compile(path, world).map(|(config, _)| config.adapt())
}

/// Reads the arguments of `explain`: a method, an address, headers as `Name: value`, the address of the client.
///
/// # Errors
///
/// The argument that is none, and why, in one line.
pub fn question(
    method: &str,
    url: &str,
    headers: &[String],
    client: Option<&str>,
) -> Result<Question, String> {
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|_| format!("`{method}` is no method"))?;
    let client = client.map(|ip| {
        ip.parse::<IpAddr>()
            .map_err(|_| format!("`{ip}` is no IP address"))
    });
    let mut map = HeaderMap::new();
    for header in headers {
        let wrong = || format!("`{header}` is no header; expected `Name: value`");
        let (name, value) = header.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
        map.append(
            name,
            HeaderValue::from_str(value.trim()).map_err(|_| wrong())?,
        );
    }
    Ok(Question {
        method,
        url: url.to_owned(),
        headers: map,
        client: client.transpose()?,
    })
}

/// Tells which site, route, actions and servers a request would meet, in words or as JSON.
pub fn explanation(plan: &Plan, question: &Question, json: bool) -> String {
    let explanation = explain(plan, question);
    if json {
        explanation.to_data().to_json()
    } else {
        explanation.to_string()
    }
}
