//! classify/authority
