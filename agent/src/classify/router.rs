//! classify/router
