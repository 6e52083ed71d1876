//! identify/process
