//! classify/path
