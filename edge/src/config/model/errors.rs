//! Pages of errors.

use crate::config::section::{section, At};
use crate::config::values::{ReadFile, StatusRange, Template};

section! {
    /// The body of answers with some statuses of errors.
    pub struct ErrorPage("an error page") {
        /// The statuses: 400 to 599, single ones, classes such as `5xx`, and ranges. If unset, all of those.
        status: Vec<At<StatusRange>> = Vec::new(),
        /// The body. Beside the variables of requests there are `{status}` and `{reason}`. What variables bring in is escaped
        /// for HTML and JSON, where the type is one of these.
        body: Option<At<Template>> = None,
        /// The file of the body. All of it but known variables stands for itself, so that CSS and JSON need no `{{`.
        file: Option<ReadFile> = None,
        /// The type of the body. If unset, that of the file by its name (`.html`, `.json`, `.xml`, `.svg`), else plain text.
        content_type: Option<At<String>> = None,
        /// True if answers of servers get this body too, in place of their own.
        intercept: bool = false,
    }
}
