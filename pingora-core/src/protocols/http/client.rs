//! An HTTP session as its client sees it, of any version.
