//! record/sink
