//! decide/document
