//! Rewind.
