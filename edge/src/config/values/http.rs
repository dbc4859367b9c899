//! Parts of HTTP messages: methods, status codes, names of fields.

use http::{HeaderName, Method, StatusCode};

use crate::config::secrets::names_secret;
use crate::config::section::Scalar;
use crate::data::Data;

impl Scalar for Method {
    const WHAT: &'static str = "a method";
    const ALLOWED: &'static str = "a method in upper case, such as `GET`";

    fn parse(text: &str) -> Result<Self, String> {
        if text.bytes().any(|b| b.is_ascii_lowercase()) {
            return Err(format!("did you mean `{}`?", text.to_ascii_uppercase()));
        }
        Self::from_bytes(text.as_bytes()).map_err(|_| String::new())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// The status of a final response, 200 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(pub StatusCode);

impl Scalar for Status {
    const WHAT: &'static str = "a status";
    const ALLOWED: &'static str = "a number from 200 to 599, such as `404`";

    fn parse(text: &str) -> Result<Self, String> {
        let code = text
            .parse::<u16>()
            .ok()
            .filter(|code| (200..600).contains(code));
        let status = code.and_then(|code| StatusCode::from_u16(code).ok());
        status.map(Self).ok_or_else(String::new)
    }

    fn show(&self) -> String {
        self.0.as_str().to_owned()
    }

    fn schema() -> Data {
        let (least, most) = (Data::Number(200), Data::Number(599));
        Data::map([
            ("type", Data::text("integer")),
            ("minimum", least),
            ("maximum", most),
        ])
    }

    fn print(&self) -> Data {
        Data::Number(self.0.as_u16().into())
    }
}

impl Scalar for HeaderName {
    const WHAT: &'static str = "a name of a header";
    const ALLOWED: &'static str = "letters, digits and `-`, such as `X-Request-Id`";
    const NAMES_SECRETS: bool = true;

    fn names_secret(&self) -> bool {
        names_secret(self.as_str())
    }

    fn parse(text: &str) -> Result<Self, String> {
        Self::from_bytes(text.as_bytes()).map_err(|_| String::new())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}
