//! record/redact
