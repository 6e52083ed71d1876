//! Stage 4: TLS with the workload, finished with a leaf of the local CA.

pub mod ca;
pub mod leaf;
