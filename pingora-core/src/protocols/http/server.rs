//! An HTTP session as its server sees it, of any version.
