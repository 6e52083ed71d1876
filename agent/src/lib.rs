//! tidegate gives every program on a host exactly the DigitalOcean API access it was granted.
//!
//! ```text
//! capture ─Captured→ identify ─Principal→ peek ─ClientHello→ terminate ─TlsStream→
//!    ┌─ per request: classify ─Operation→ decide ─Decision→ forward ─Verdict→ record ─AuditRecord
//!    └─ any error at any stage ──────────→ refusal (or close) ───────────→ record
//! ```
//!
//! The modules stand in the order of that path. A stage knows the stages before it and none after it;
//! [`session`] alone knows them all.

pub mod config;
pub mod few;
pub mod host;
mod link;
pub mod reason;
mod spanned;
mod tls;
pub mod toml_file;
pub mod whole_file;
pub mod yaml;

pub mod capture;
pub mod identify;
pub mod peek;
pub mod terminate;

pub mod classify;
pub mod decide;
pub mod forward;
pub mod record;

pub mod session;

pub mod app;
pub mod cli;
#[cfg(feature = "kubernetes")]
pub mod cluster;
#[cfg(feature = "kubernetes")]
pub mod containers;
pub mod control;
pub mod doctor;
pub mod health;
pub mod host_trust;
pub mod manifest;
pub mod protect;
pub mod run;
pub mod trust;
