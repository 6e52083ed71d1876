//! Stage 6: may this workload make this request? Pure, total, deterministic; the default is deny.

pub mod decision;
pub mod document;
pub mod grant;
pub mod policy;

pub use decision::{Decision, Effect};
pub use policy::Policy;
