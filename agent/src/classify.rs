//! Stage 5: the request head becomes an [`Operation`] of the catalogue, or stays unclassified.

pub mod authority;
pub mod catalogue;
pub mod operation;
pub mod path;
pub mod router;
pub mod scope;

pub use operation::Operation;
pub use scope::Scope;
