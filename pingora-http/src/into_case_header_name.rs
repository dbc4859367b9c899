//! Types that can name a field.

use crate::case_header_name::CaseHeaderName;
use crate::known::Name;
use bytes::Bytes;
use http::header::{HeaderName, InvalidHeaderName};

/// A name of a field for `insert_header` and `append_header`.
///
/// Strings and bytes keep the letter case they have; a [`HeaderName`] has none and stands for the
/// usual spelling of the field ("Content-Type"), or lower case where there is no usual one.
pub trait IntoCaseHeaderName {
    /// Turns the value into a name with a spelling.
    ///
    /// Nothing is checked here: bytes that are no field name are refused where the name is used.
    fn into_case_header_name(self) -> CaseHeaderName;

    /// The parsed name along with its spelling, without parsing where that was done before.
    #[doc(hidden)]
    fn into_named(self) -> Result<(Name, CaseHeaderName), InvalidHeaderName>
    where
        Self: Sized,
    {
        let spelling = self.into_case_header_name();
        Name::parse(spelling.as_slice()).map(|name| (name, spelling))
    }
}

impl IntoCaseHeaderName for &'static str {
    fn into_case_header_name(self) -> CaseHeaderName {
        Bytes::from_static(self.as_bytes()).into()
    }

    fn into_named(self) -> Result<(Name, CaseHeaderName), InvalidHeaderName> {
        Name::parse_static(self).map(|name| (name, self.into_case_header_name()))
    }
}

impl IntoCaseHeaderName for String {
    fn into_case_header_name(self) -> CaseHeaderName {
        Bytes::from(self).into()
    }
}

impl IntoCaseHeaderName for Bytes {
    fn into_case_header_name(self) -> CaseHeaderName {
        self.into()
    }
}

impl IntoCaseHeaderName for &HeaderName {
    fn into_case_header_name(self) -> CaseHeaderName {
        self.clone().into_case_header_name()
    }

    fn into_named(self) -> Result<(Name, CaseHeaderName), InvalidHeaderName> {
        self.clone().into_named()
    }
}

impl IntoCaseHeaderName for HeaderName {
    fn into_case_header_name(self) -> CaseHeaderName {
        usual_spelling(&self.into())
    }

    fn into_named(self) -> Result<(Name, CaseHeaderName), InvalidHeaderName> {
        let name = Name::from(self);
        let spelling = usual_spelling(&name);
        Ok((name, spelling))
    }
}

fn usual_spelling(name: &Name) -> CaseHeaderName {
    match name.known {
        Some(known) => known.spelling.clone(),
        None => name.name.as_str().as_bytes().into(),
    }
}
