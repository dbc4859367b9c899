//! The types of single values, each with an error that says what is allowed.

mod address;
mod count;
mod host;
mod http;
mod key;
mod mode;
mod origin;
mod password;
mod path;
mod percent;
mod rate;
mod retry_on;
mod secret;
mod size;
mod status_range;
mod template;
mod text;
mod time;

pub use address::{Address, Network};
pub use count::Count;
pub use host::HostPattern;
pub use http::Status;
pub use key::LimitKey;
pub use mode::Mode;
pub use origin::WebOrigin;
pub use password::{PasswordHash, UserName};
pub use path::{PathPattern, PathPrefix, Regex};
pub use percent::Percent;
pub use rate::Rate;
pub use retry_on::RetryOn;
pub use secret::Secret;
pub use size::Size;
pub use status_range::StatusRange;
pub use template::{Part, Template, Variable};
pub(crate) use text::glob_matches;
pub use text::TextPattern;
