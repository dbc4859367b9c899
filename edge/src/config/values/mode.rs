//! The permissions of a file.

use crate::config::section::Scalar;

/// The permissions of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode(pub u32);

impl Scalar for Mode {
    const WHAT: &'static str = "a mode";
    const TYPES: &'static [&'static str] = &["string", "integer"];
    const ALLOWED: &'static str = "permissions of a file in octal digits, such as `0660`";

    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let octal = (3..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let mode = u32::from_str_radix(digits, 8).ok();
        let mode = mode.filter(|mode| octal && *mode <= 0o777);
        mode.map(Self).ok_or_else(String::new)
    }

    fn show(&self) -> String {
        format!("{:04o}", self.0)
    }
}
