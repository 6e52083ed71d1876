//! Stage 7: the allowed request goes to the original destination, and the answer comes back.

pub mod guard;
pub mod headers;
